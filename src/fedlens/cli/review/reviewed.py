"""From a run directory to what the console reviews: plain values, as `review` asks for them."""

from collections.abc import Sequence
from typing import Any

from fedlens.data import Split
from fedlens.errors import RunError
from fedlens.experiment import Run
from fedlens.experiment.explaining import applicable
from fedlens.experiment.reporting import privacy_spending, report_content
from fedlens.experiment.run import partition_of
from fedlens.explain import blind_area
from fedlens.randomness import Purpose, torch_seed
from fedlens.report.model_card import ModelCard, model_card
from fedlens.review.model import Examiner, Subject, weights_digest
from fedlens.review.model.measuring import measured
from fedlens.training.evaluation import Evaluation, evaluate_logits
from fedlens.training.prediction import predict

BESIDE = ("integrated-gradients", "hires-cam", "occlusion")
"""Methods that a reviewer may switch to beside those of the run: two of them can disagree."""


def subject_of(run: Run) -> Subject:
    """Return the model of a finished run (the first of several seeds) as the console reviews it.

    Raises:
        RunError: the run is not finished or damaged, no method of it can explain its network, or its
            ledger cannot be trusted.
        DataError: its image set is gone or has changed.
        ReviewError: its images may have several labels.
    """
    part = run.parts[0] if run.parts else run
    test = part.test  # before the images are read: an unfinished run is refused at once
    config, dataset, model = part.config, part.dataset, part.model
    methods = list(dict.fromkeys([*config.explain.methods, *BESIDE]))
    able, refused = applicable(model, methods)
    if not able:
        raise RunError(
            f"No method of {run.path} can explain its network, so there is nothing to review it by: "
            + " ".join(refused.values())
        )
    shape = (dataset.channels, dataset.image_size, dataset.image_size)
    blind = blind_area(model, shape, seed=torch_seed(config.seed, Purpose.EXPLAIN))
    federated = config.mode == "federated"
    unit = "round" if federated else "epoch"
    clients = f", {len(partition_of(config, dataset))} clients" if federated else ""
    return Subject(
        title=f"{config.model.name} on {dataset.name}",
        network=config.model.name,
        model=model,
        digest=weights_digest(model),
        class_names=tuple(dataset.class_names),
        channels=dataset.channels,
        image_size=dataset.image_size,
        dataset_name=dataset.name,
        dataset_checksum=dataset.checksum,
        test=test,
        validation=validation_of(part),
        task=dataset.task,
        train=dataset.train,
        test_split=dataset.test,
        round=len(part.history),
        trained=f"{config.mode}{clients}, {len(part.history)} {unit}s",
        privacy=_privacy(part),
        methods=tuple(able),
        layer=config.explain.layer,
        blind_area=blind if bool(blind.any()) else None,
        groups=_groups(part),
        seed=config.seed,
    )


def validation_of(run: Run) -> Split:
    """Return the images that confidence is set right by: never those of the test split.

    A run that held nothing out (`dataset.hold_out` off) trained on them, so its confidence is set
    right by images that it knows, and is too high; the console says so.
    """
    return run.dataset.validation if run.config.dataset.hold_out else run.image_set.validation


def _privacy(run: Run) -> dict[str, Any] | None:
    spent = privacy_spending(run)
    if spent is None:
        return None
    return {
        "epsilon": spent.worst.epsilon,
        "delta": spent.terms.delta,
        "unit": spent.terms.unit,
        "relation": spent.terms.relation,
        "guarantee": spent.terms.guarantee,
        "verified": spent.verified,
    }


def _groups(run: Run) -> dict[str, Evaluation] | None:
    """Return the figures of each institution on its own test images; None where there are none."""
    test, names = run.dataset.test, run.dataset.group_names
    if test.groups is None:
        return None
    logits = predict(run.model, test.images)
    return {
        names[group] if group < len(names) else f"group {group}": evaluate_logits(
            logits[test.groups == group], test.labels[test.groups == group]
        )
        for group in test.groups.unique().tolist()
    }


def card_of(run: Run, examiner: Examiner, oversight: Sequence[str] = ()) -> ModelCard:
    """Return the model card of a finished run.

    Args:
        run: that `subject_of` made the examiner's subject of.
        examiner: of its model.
        oversight: how people oversee it, plain sentences.
    """
    return model_card(report_content(run, explained=False), measured(examiner, oversight))
