"""The sections of the configuration: every key, its default, and what it may be."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from fedlens.data.partitions import SCHEMES
from fedlens.explain import METHODS
from fedlens.federated.aggregation import AGGREGATIONS
from fedlens.federated.algorithms import ALGORITHMS
from fedlens.models import MODELS
from fedlens.training.local import MOST_THREADS


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DatasetSection(Section):
    """Which images."""

    name: str | None = Field(
        None, description="known image set; `fashion-mnist` where neither name nor path is given"
    )
    path: str | None = Field(None, min_length=1, description="file or folder of the image set")
    limit: int | None = Field(
        None, ge=100, description="use only so many training images, drawn by class"
    )
    hold_out: bool = Field(
        True,
        description="false trains on the validation images too; each round is then measured on the "
        "test split, as published benchmarks do, and nothing may be chosen by it",
    )

    @property
    def measured_on(self) -> str:
        """The split that each round or epoch is measured on: "validation" or "test"."""
        return "validation" if self.hold_out else "test"


class PartitionSection(Section):
    """How the training images are spread over the clients."""

    scheme: str = Field("dirichlet", description=f"one of {', '.join(sorted(SCHEMES))}")
    alpha: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Dirichlet concentration (0.5 where the scheme takes one)",
    )
    classes_per_client: int | None = Field(
        None, ge=1, description="k of the scheme `classes` (2 there)"
    )
    class_lists: dict[str, list[str | int]] | None = Field(
        None, description="client name -> class names, for the scheme `class-lists`"
    )
    minimum: int = Field(10, ge=1, description="fewest training images a client may hold")
    drop: bool = Field(False, description="leave out images that the scheme has no client for")


class ModelSection(Section):
    """Which network."""

    name: str = Field("paper-cnn", description=f"one of {', '.join(MODELS)}")


class FederationSection(Section):
    """Who trains together and how their updates are combined (mode `federated`)."""

    algorithm: str = Field("fedavg", description=f"one of {', '.join(ALGORITHMS)}")
    clients: int | None = Field(
        None, ge=1, description="number of clients (10, or as many as the groups or class lists)"
    )
    cohort: int | float | Literal["all"] = Field(
        "all", description="clients a round: all, a count, or a fraction below 1"
    )
    rounds: int = Field(10, ge=1, description="rounds of training")
    workers: int = Field(
        2, ge=1, description="processes, of one thread each; the result does not depend on it"
    )
    parameters: dict[str, bool | float | str] = Field(
        {}, description="of the algorithm, e.g. server_lr of fedavg"
    )
    aggregation: str = Field(
        "mean", description=f"rule for the clients' vectors: one of {', '.join(AGGREGATIONS)}"
    )
    trim: float | None = Field(
        None, ge=0, lt=0.5, description="share that `trimmed-mean` cuts off at either end (0.2)"
    )
    byzantine: float | None = Field(
        None, ge=0, lt=0.5, description="share of liars that `krum`, `multi-krum` withstand (0.2)"
    )
    minimum_cohort: int = Field(
        0, ge=0, description="usable updates below which a round is repeated"
    )
    averaging: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="most that an average of the global models keeps of itself in a round; the "
        "average is then the model of the run",
    )
    far_off: Literal["keep", "clip", "reject"] = Field(
        "keep", description="what is done with updates much longer than their round's median"
    )
    far_off_factor: float = Field(
        3.0, ge=1, allow_inf_nan=False, description="how many medians are far off"
    )

    @field_validator("averaging")
    @classmethod
    def _none_for_zero(cls, value: float | None) -> float | None:
        return value or None  # runs from before there was an average have no such key


class LocalSection(Section):
    """How each client trains (or, in mode `central`, how the pooled images are trained on)."""

    epochs: Annotated[int, Field(ge=1)] | list[int] = Field(
        1, description="passes over the images: a number, or [low, high] drawn per client and round"
    )
    batch_size: Annotated[int, Field(ge=1, lt=2**31)] | Literal["full"] = Field(
        32, description="images a step, or full"
    )
    optimizer: Literal["sgd", "adam", "adamw"] = Field("sgd", description="sgd, adam or adamw")
    lr: float = Field(0.05, gt=0, allow_inf_nan=False, description="learning rate")
    momentum: float = Field(0.0, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False, description="L2 penalty")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant",
        description="learning rate over a client's steps in a round (or over the training)",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="float32, or bfloat16 (faster, rounds more coarsely)"
    )
    threads: int = Field(
        1,
        ge=1,
        le=MOST_THREADS,
        description="threads that work on each batch together (mode `central`)",
    )
    averaging: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of an average of the weights over the steps, which is what is measured "
        "(mode `central`)",
    )

    @field_validator("epochs")
    @classmethod
    def _range(cls, value: int | list[int]) -> int | list[int]:
        if isinstance(value, list) and (len(value) != 2 or value[0] < 1 or value[0] > value[1]):
            raise ValueError("expected a whole number from 1, or [low, high] with 1 <= low <= high")
        return value


class FaultsSection(Section):
    """What goes wrong, simulated (mode `federated`)."""

    dropout: float = Field(
        0.0, ge=0, lt=1, description="probability that a client of the cohort never answers"
    )
    stragglers: float = Field(
        0.0, ge=0, le=1, description="share of the cohort that misses the deadline"
    )
    late: Literal["drop", "partial"] = Field(
        "drop", description="a straggler's update is dropped, or its partial work taken"
    )
    poisoned: float = Field(0.0, ge=0, lt=1, description="share of all clients that attack")
    attack: Literal["label-flip", "sign-flip", "scaled-update"] = Field(
        "sign-flip", description="what they do"
    )
    scale: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="of the attacks sign-flip and scaled-update"
    )


class PrivacySection(Section):
    """What hides an example, or a client, from whoever sees the model."""

    mechanism: Literal["none", "dp-sgd", "dp-fedavg"] = Field(
        "none",
        description="none: updates travel as they are; dp-sgd: hides one example, by noise in every "
        "step; dp-fedavg: hides one client, by noise on the sum of clipped updates",
    )
    epsilon: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="budget: training ends before it would be exceeded; also sets the noise, where "
        "noise_multiplier does not",
    )
    delta: float = Field(
        1e-5, gt=0, lt=1, description="of the guarantee; well below one over the units"
    )
    noise_multiplier: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="deviation of the noise over the clip norm; calibrated to epsilon if not given",
    )
    clip_norm: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="longest gradient of an example (or update)"
    )
    sampling: Literal["poisson", "fixed"] = Field(
        "poisson",
        description="poisson amplifies privacy; fixed (shuffled batches, cohorts of one size) does not",
    )
    placement: Literal["server", "local", "distributed"] = Field(
        "server",
        description="who adds the noise of dp-fedavg: a trusted server, or each client its own; "
        "distributed needs secure aggregation",
    )
    schedule: Literal["constant", "linear", "exponential", "cosine", "step"] = Field(
        "constant", description="how the noise falls over the epochs (or rounds)"
    )
    schedule_end: float = Field(
        0.5, gt=0, le=1, description="factor of the noise in the last epoch (or round)"
    )
    clip_quantile: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of updates that shall not be clipped: the clip norm of dp-fedavg follows it",
    )
    clip_rate: float = Field(
        0.2, gt=0, allow_inf_nan=False, description="how fast the clip norm follows"
    )
    count_noise: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="deviation of the noise on the count of unclipped updates (a twentieth of the "
        "cohort)",
    )
    views: int = Field(
        1,
        ge=1,
        le=64,
        description="of dp-sgd: randomly shifted and mirrored copies of each image whose mean gradient "
        "is clipped; with 1 the image itself",
    )
    seeded: bool = Field(
        False, description="draw noise and samples from the seed: repeatable, but no guarantee"
    )


class ExplainSection(Section):
    """How decisions are explained."""

    method: str | list[str] = Field(
        "grad-cam",
        description="a name, or a list: the first makes the main map, the others are shown beside "
        f"it; of {', '.join(METHODS)}",
    )
    layer: str | None = Field(
        None,
        description="layer to explain, of methods that explain one; the last convolution if not given",
    )

    @field_validator("method")
    @classmethod
    def _each_once(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, list) and (not value or len(set(value)) < len(value)):
            raise ValueError("expected one method or more, each once")
        return value

    @property
    def methods(self) -> list[str]:
        """The methods as a list, the main one first."""
        return [self.method] if isinstance(self.method, str) else list(self.method)


class ReportSection(Section):
    """What the report shows."""

    cases: int = Field(6, ge=1, le=50, description="explained images in each group of the gallery")
