"""What a report leaves out so that it tells no more than was promised, and what its counts tell."""

from fedlens.report.content import ReportContent


def hides_clients(content: ReportContent) -> bool:
    """Tell whether what a client holds is what privacy hides: then no exact figure of it is shown."""
    return content.privacy is not None and content.privacy.mechanism.unit == "client"


def hides_names(content: ReportContent) -> bool:
    """Tell whether it is hidden who the clients are; not where each is seen to send."""
    return hides_clients(content) and _placement(content) != "local"


def what_clients_hold(content: ReportContent) -> str:
    """Return that it is left out, and why, in a sentence; empty where it is not."""
    if not hides_clients(content):
        return ""
    if hides_names(content):
        return (
            "What each client holds is left out of this page: its name, how many images it has and of "
            "which classes are exact, and would tell what is promised to be hidden, namely whether it "
            "took part, and with what."
        )
    return (
        "What each client holds is left out of this page: how many images it has and of which classes "
        "are exact, and would tell what is promised to be hidden, namely which images it holds."
    )


def training_counts(content: ReportContent) -> str:
    """Return why a table of the splits has no training column; empty where it has one."""
    if not hides_clients(content):
        return ""
    return (
        "Training images are left out: their numbers are exact sums over the clients, from which all "
        "others together could work out those of one."
    )


def times(content: ReportContent) -> str:
    """Return why no times are shown, in a sentence; empty where they are."""
    if not hides_clients(content):
        return ""
    return "Times are left out: they follow from who took part, and from how much each holds."


def exact_counts(content: ReportContent) -> str:
    """Return what exact counts of training images tell of one of them; empty where nothing of it.

    Nothing where no image is promised to be hidden, and where no such count is shown.
    """
    if content.privacy is None or hides_clients(content):
        return ""
    return (
        "Counts of training images are exact and not covered by the guarantee: whoever knows all of "
        "them but one can tell the class of the one that is left, but not its pixels."
    )


def _placement(content: ReportContent) -> str:
    assert content.privacy is not None
    return content.privacy.mechanism.placement
