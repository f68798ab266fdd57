"""From a run directory to what the console reviews: plain values, as `review` asks for them."""

from typing import Any

import torch

from fedlens.data import Split
from fedlens.errors import RunError
from fedlens.experiment import Run
from fedlens.experiment.explaining import applicable
from fedlens.experiment.privacy import private
from fedlens.report.content import PrivacySpending, ReportContent
from fedlens.review.model import Subject, weights_digest
from fedlens.training.evaluation import Evaluation, evaluate_logits
from fedlens.training.prediction import predict

BESIDE = ("integrated-gradients", "hires-cam", "occlusion")
"""Methods that a reviewer may switch to beside those of the run: two of them can disagree."""


def subject_of(run: Run, content: ReportContent) -> Subject:
    """Return the model of a finished run (the first of several seeds) as the console reviews it.

    Args:
        run: finished.
        content: of its report; the gallery is not needed.

    Raises:
        RunError: the run is not finished or damaged, no method of it can explain its network, or its
            ledger cannot be trusted.
        DataError: its image set is gone or has changed.
        ReviewError: its images may have several labels.
    """
    part = run.parts[0] if run.parts else run
    config, dataset, model = part.config, part.dataset, part.model
    methods = list(dict.fromkeys([*config.explain.methods, *BESIDE]))
    able, refused = applicable(model, methods)
    if not able:
        raise RunError(
            f"No method of {run.path} can explain its network, so there is nothing to review it by: "
            + " ".join(refused.values())
        )
    federated = config.mode == "federated"
    unit = "round" if federated else "epoch"
    clients = f", {len(content.client_names)} clients" if federated else ""
    averaged = " averaged" if federated and config.federation.averaging else ""
    blind = None if content.blind_area is None else torch.from_numpy(content.blind_area)
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
        test=part.test,
        validation=validation_of(part),
        task=dataset.task,
        train=dataset.train,
        test_split=dataset.test,
        round=len(part.history),
        trained=f"{config.mode}{clients}, {len(part.history)} {unit}s{averaged}",
        privacy=_privacy(content.privacy),
        methods=tuple(able),
        layer=config.explain.layer,
        blind_area=blind,
        groups=_groups(part),
        seed=config.seed,
    )


def validation_of(run: Run) -> Split:
    """Return the images that confidence is set right by: never those of the test split.

    A run that held nothing out (`dataset.hold_out` off) trained on them, so its confidence is set
    right by images that it knows, and is too high; the model card says that it held nothing out.

    Raises:
        RunError: such a run that is private: what is worked out of these images has no noise.
    """
    if run.config.dataset.hold_out:
        return run.dataset.validation
    if private(run.config):
        raise RunError(
            f"{run.path} is private and was trained on its validation images too, since "
            "dataset.hold_out is off: what the console works out of them would tell of them without "
            "noise, which no epsilon covers; make a run that holds them out."
        )
    return run.image_set.validation


def _privacy(spent: PrivacySpending | None) -> dict[str, Any] | None:
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
