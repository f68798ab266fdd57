"""The one configuration of an experiment: its sections, where its values come from, its checks."""

import copy
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from pydantic import BaseModel, Field, ValidationError, model_validator

from fedlens.data.partitions import OWN_CLIENTS, SCHEMES
from fedlens.errors import ConfigError, RunError
from fedlens.experiment.sections import (
    DatasetSection,
    ExplainSection,
    FaultsSection,
    FederationSection,
    LocalSection,
    ModelSection,
    PartitionSection,
    PrivacySection,
    ReportSection,
    Section,
)
from fedlens.experiment.wording import did_you_mean, values_in_words
from fedlens.explain import METHODS
from fedlens.federated.aggregation import build_aggregation
from fedlens.federated.algorithm import Algorithm
from fedlens.federated.algorithms import build_algorithm
from fedlens.federated.cohort import check_minimum_cohort, cohort_size
from fedlens.files import read_bytes
from fedlens.models import MODELS
from fedlens.training.local import LocalTraining

FORMAT = 2  # of run directories; raised when an older fedlens could not read a newer one
LARGEST_FILE = 1 << 20
DEFAULT_CLIENTS = 10
BELONGINGS = {
    ("partition", "scheme"): ("alpha", "classes_per_client", "class_lists"),
    ("local", "optimizer"): ("momentum",),
    ("federation", "algorithm"): ("parameters",),
    ("federation", "aggregation"): ("trim", "byzantine"),
    ("privacy", "mechanism"): tuple(PrivacySection.model_fields.keys() - {"mechanism"}),
}
PRIVACY_BELONGINGS = {
    **dict.fromkeys(("placement", "clip_quantile", "clip_rate", "count_noise"), "dp-fedavg"),
    "views": "dp-sgd",
}
SCHEME_DEFAULTS = {"alpha": 0.5, "classes_per_client": 2, "class_lists": None}


class Config(Section):
    """The whole configuration of one experiment."""

    mode: Literal["federated", "central"] = Field(
        "federated", description="federated, or central (all images pooled, as a baseline)"
    )
    seed: int = Field(42, ge=0, lt=2**63, description="root of every random draw")
    repeats: int = Field(
        1, ge=1, le=100, description="runs with the seeds seed, seed + 1, ...; reported together"
    )
    dataset: DatasetSection = Field(default_factory=DatasetSection)
    partition: PartitionSection = Field(default_factory=PartitionSection)
    model: ModelSection = Field(default_factory=ModelSection)
    federation: FederationSection = Field(default_factory=FederationSection)
    local: LocalSection = Field(default_factory=LocalSection)
    faults: FaultsSection = Field(default_factory=FaultsSection)
    privacy: PrivacySection = Field(default_factory=PrivacySection)
    explain: ExplainSection = Field(default_factory=ExplainSection)
    report: ReportSection = Field(default_factory=ReportSection)

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        """Fill in what depends on other keys, and check what pydantic cannot see."""
        _choice("partition.scheme", self.partition.scheme, SCHEMES)
        _choice("model.name", self.model.name, MODELS)
        for method in self.explain.methods:
            _choice("explain.method", method, METHODS)
        self.algorithm()
        self.local_training()
        if self.seed + self.repeats > 2**63:
            raise ConfigError(
                f"seed is {self.seed} and repeats {self.repeats}, expected the last seed below 2^63."
            )
        if self.mode == "central" and not isinstance(self.local.epochs, int):
            raise ConfigError(
                f"local.epochs is {self.local.epochs}, expected one whole number in mode 'central'."
            )
        if self.mode == "central" and self.faults != FaultsSection():
            raise ConfigError(
                "faults is set, but mode 'central' has no clients that could drop out, be late or "
                "attack."
            )
        if self.mode == "federated" and self.local.threads > 1:
            raise ConfigError(
                f"local.threads is {self.local.threads}, expected 1 in mode 'federated', where "
                "federation.workers makes use of the processors."
            )
        if self.mode == "federated" and self.local.averaging:
            raise ConfigError(
                f"local.averaging is {self.local.averaging}, expected 0 in mode 'federated': a "
                "client's average would not be what its algorithm works with; federation.averaging "
                "averages the rounds."
            )
        own = SCHEMES[self.partition.scheme]
        for key, default in SCHEME_DEFAULTS.items():
            value = getattr(self.partition, key)
            if value is not None and key != own:
                raise ConfigError(
                    f"partition.{key} is set, but the scheme '{self.partition.scheme}' does not "
                    "take it."
                )
            if value is None and key == own:
                object.__setattr__(self.partition, key, default)
        if self.dataset.name is None and self.dataset.path is None:
            object.__setattr__(self.dataset, "name", "fashion-mnist")
        if self.federation.clients is None and self.partition.scheme not in OWN_CLIENTS:
            object.__setattr__(self.federation, "clients", DEFAULT_CLIENTS)
        self._check_privacy()
        if self.federation.clients is not None:
            size = cohort_size(self.cohort(), self.federation.clients)
            check_minimum_cohort(self.federation.minimum_cohort, size)
        return self

    def _check_privacy(self) -> None:
        privacy = self.privacy
        if privacy.mechanism == "none":
            if privacy != PrivacySection():
                raise ConfigError(
                    "privacy.mechanism is 'none', but other keys of privacy are set; choose dp-sgd to "
                    "hide an example, or dp-fedavg to hide a client."
                )
            return
        if privacy.epsilon is None and privacy.noise_multiplier is None:
            raise ConfigError(
                f"privacy.mechanism is '{privacy.mechanism}', but neither privacy.epsilon (a budget) "
                "nor privacy.noise_multiplier is given."
            )
        if privacy.mechanism == "dp-fedavg" and self.mode == "central":
            raise ConfigError(
                "privacy.mechanism is 'dp-fedavg', which hides clients, but mode 'central' has none; "
                "choose dp-sgd."
            )
        if privacy.placement == "distributed":
            raise ConfigError(
                "privacy.placement is 'distributed', but shares of noise protect only inside secure "
                "aggregation, which runs do not have; choose 'server' or 'local'."
            )
        if privacy.mechanism == "dp-sgd" and self.local.precision != "float32":
            raise ConfigError(
                f"local.precision is '{self.local.precision}', but with dp-sgd the gradient of each "
                "example is worked out in float32; choose float32."
            )
        if privacy.clip_quantile is None and (privacy.clip_rate, privacy.count_noise) != (
            PrivacySection().clip_rate,
            None,
        ):
            raise ConfigError(
                "privacy.clip_rate or privacy.count_noise is set, but the clip norm stays as it is "
                "unless privacy.clip_quantile is given."
            )
        for key, mechanism in PRIVACY_BELONGINGS.items():
            if mechanism != privacy.mechanism and getattr(privacy, key) != getattr(
                PrivacySection(), key
            ):
                raise ConfigError(
                    f"privacy.{key} is set, but it belongs to '{mechanism}', not to "
                    f"'{privacy.mechanism}'."
                )

    def cohort(self) -> int | float | None:
        """Return the cohort as :func:`fedlens.federate` takes it."""
        return None if self.federation.cohort == "all" else self.federation.cohort

    def algorithm(self) -> Algorithm:
        """Return the algorithm as :func:`fedlens.federate` takes it; raises ``ConfigError``."""
        section = self.federation
        rule = build_aggregation(
            section.aggregation, trim=section.trim, byzantine=section.byzantine
        )
        return build_algorithm(section.algorithm, section.parameters, rule)

    def local_training(self) -> LocalTraining:
        """Return the local settings as :func:`fedlens.federate` takes them."""
        local = self.local
        epochs = (
            local.epochs if isinstance(local.epochs, int) else (local.epochs[0], local.epochs[1])
        )
        return LocalTraining(
            epochs=epochs,
            batch_size=None if local.batch_size == "full" else local.batch_size,
            optimizer=local.optimizer,
            lr=local.lr,
            momentum=local.momentum,
            weight_decay=local.weight_decay,
            schedule=local.schedule,
            precision=local.precision,
            threads=local.threads,
            averaging=local.averaging,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as nested plain values, without the keys that are not set."""
        return self.model_dump(exclude_none=True)


def load_config(
    path: Path | None = None,
    *,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    base: Mapping[str, Any] | None = None,
) -> Config:
    """Return the configuration made of a preset, then a file, then ``key=value`` overrides.

    Args:
        path: TOML file.
        preset: name of a preset, see :func:`presets`.
        overrides: such as ``local.lr=0.1``; values are TOML, a bare word is a string.
        base: values that everything else overrides.

    Raises:
        ConfigError: a file that is not TOML, an unknown key, a value that a key cannot have.
    """
    content: dict[str, Any] = {}
    if base is not None:
        _merge(content, base)
    if preset is not None:
        _supersede(content, read_preset(preset))
    if path is not None:
        own = _parse(_read(path), str(path))
        version = own.pop("format", FORMAT)  # the config.toml of a run directory has one
        if version != FORMAT:
            raise ConfigError(f"{path} is of format {version}, expected {FORMAT}.")
        _supersede(content, own)
    given: dict[str, Any] = {}
    for override in overrides:
        _merge(given, _override(override), whole=())
    _supersede(content, given)
    return parse_config(content)


def parse_config(content: Mapping[str, Any]) -> Config:
    """Return the configuration with the values of ``content``; raises ``ConfigError``."""
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from error


def presets() -> list[str]:
    """Return the names of the presets that come with fedlens."""
    return sorted(path.stem for path in _preset_folder().glob("*.toml"))


def read_preset(name: str) -> dict[str, Any]:
    """Return the values of a preset; raises ``ConfigError`` where there is none of that name."""
    _choice("preset", name, presets())
    return _parse((_preset_folder() / f"{name}.toml").read_text(), f"the preset '{name}'")


def write_config(config: Config) -> str:
    """Return the fully resolved configuration as TOML, with the format of the run directory."""
    return tomli_w.dumps({"format": FORMAT, **config.to_dict()})


def _preset_folder() -> Path:
    return Path(__file__).parent / "presets"


def _read(path: Path) -> str:
    try:
        return read_bytes(path, LARGEST_FILE).decode()
    except RunError as error:
        raise ConfigError(str(error)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text file in UTF-8.") from error


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of too many digits, endless nesting
        raise ConfigError(f"{where} is not valid TOML: {error}.") from error


def _override(text: str) -> dict[str, Any]:
    key, separator, value = text.partition("=")
    key = key.strip()
    if not separator or not all(part.replace("_", "a").isalnum() for part in key.split(".")):
        raise ConfigError(f"--set {text!r} is not of the form key=value, e.g. local.lr=0.1.")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        parsed = value.strip()
    for part in reversed(key.split(".")):
        parsed = {part: parsed}
    content: dict[str, Any] = parsed
    return content


def _supersede(content: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Merge a later source into ``content``; what belonged to a choice it changes goes with it."""
    for (section, choice), belongings in BELONGINGS.items():
        old, later = content.get(section), new.get(section)
        if isinstance(old, dict) and isinstance(later, Mapping) and choice in later:
            for key in belongings:
                old.pop(key, None)
    _merge(content, new)


def merged(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of several sources, a later one before an earlier."""
    content: dict[str, Any] = {}
    for source in sources:
        _supersede(content, copy.deepcopy(dict(source)))
    return content


def _merge(
    into: dict[str, Any], new: Mapping[str, Any], whole: Sequence[str] = ("class_lists",)
) -> None:
    """Take the values of ``new`` in, key by key, but what is in ``whole`` as a whole."""
    for key, value in new.items():
        old = into.get(key)
        if isinstance(value, Mapping) and isinstance(old, dict) and key not in whole:
            _merge(old, value, whole)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _choice(key: str, value: str, allowed: Sequence[str] | Mapping[str, Any]) -> None:
    if value not in allowed:
        raise ConfigError(
            f"{key} is '{value}', expected one of {', '.join(sorted(allowed))}."
            f"{did_you_mean(value, allowed)}"
        )


def _sentence(error: ValidationError) -> str:
    """Return the first of pydantic's complaints as one sentence that names the key."""
    first = error.errors()[0]
    parts = [part for part in first["loc"] if isinstance(part, str)]
    model: type[BaseModel] = Config
    path: list[str] = []
    for part in parts:
        if part not in model.model_fields:
            break
        path.append(part)
        annotation = model.model_fields[part].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        unknown = ".".join([*path, str(first["loc"][-1])])
        allowed = list(model.model_fields)
        where = f"The section [{key}]" if key else "The configuration"
        return (
            f"There is no key '{unknown}'. {where} takes {', '.join(allowed)}."
            f"{did_you_mean(str(first['loc'][-1]), allowed)}"
        )
    field = model.model_fields.get(path[-1]) if path else None
    allowed_values = f" It takes {values_in_words(field)}." if field is not None else ""
    message = str(first["msg"]).removeprefix("Value error, ")
    value = first["input"]
    return f"{key} is {value!r}: {message[0].lower()}{message[1:]}.{allowed_values}"
