"""The errors that a person may cause: each is one clear sentence.

The sentence says what was wrong, where, and what was expected or what to do next. The command line
prints it and exits with code 2; anything else that escapes is a defect of ours and keeps its traceback.
"""


class FedlensError(Exception):
    """Something that the user can put right; its text is one sentence for a person."""


class DataError(FedlensError):
    """An image set, a file of one, or a partition that cannot be what it should be."""


class DataNotFoundError(DataError):
    """An image set that is nowhere on this machine and could not be downloaded."""


class ConfigError(FedlensError):
    """A configuration key that does not exist, or a value that it cannot have."""


class ModelError(FedlensError):
    """A network that cannot be built, or cannot be used in the way that was asked for."""


class RunError(FedlensError):
    """A run directory that cannot be written, read, resumed or trusted."""


class ExplanationError(FedlensError):
    """An explanation that was asked of a layer, class or method that is not there."""
