"""From a run directory to what the report shows."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedlens.data import ImageDataset, Partition
from fedlens.experiment.config import parse_config
from fedlens.experiment.gallery import Gallery, build_gallery
from fedlens.experiment.ledger import check_accounts, open_ledger
from fedlens.experiment.modes import units
from fedlens.experiment.opened import Run
from fedlens.experiment.privacy import accounts_of, private
from fedlens.experiment.run import partition_of
from fedlens.experiment.run_directory import RunDirectory
from fedlens.experiment.study_figures import comparable_figures
from fedlens.explain import blind_area, blind_light
from fedlens.models.summary import summarise_layers
from fedlens.privacy.accounting import worst_attack_bound
from fedlens.privacy.amplification import amplification
from fedlens.randomness import Purpose, torch_seed
from fedlens.report import write_report
from fedlens.report.content import PrivacyAccount, PrivacySpending, ReportContent, SeedResult
from fedlens.report.history import listed, number

UNEXPLAINED = "No decision is explained here: no chosen method can explain {network}."
WITHOUT_METHOD = "Maps of {method} are left out. {sentence}"
REFERENCES_OF_A_PRIVATE_RUN = (
    "The maps of {methods} are worked out from training images as they are, which no noise hides: the "
    "guarantee of this run does not cover them."
)


def report_run(run: Run) -> Path:
    """Write ``report.html`` and ``figures/`` into the run's directory and return the page's path.

    Raises:
        RunError: the run is not finished, or its privacy ledger is gone or was changed.
        DataError: its image set is gone or has changed.
    """
    return write_report(report_content(run), run.path)


def report_content(run: Run, *, explained: bool = True) -> ReportContent:
    """Gather what the report of a finished run shows; raises as :func:`report_run`.

    Args:
        run: finished.
        explained: explain some decisions, which takes most of the time; else there is no gallery.
    """
    runs = run.parts or (run,)
    dataset, model, config = runs[0].dataset, runs[0].model, run.config
    shape = (dataset.channels, dataset.image_size, dataset.image_size)
    clients = partition_of(runs[0].config, dataset) if config.mode == "federated" else None
    blind: Tensor = blind_area(model, shape, seed=torch_seed(config.seed, Purpose.EXPLAIN))
    gallery = Gallery([])
    if explained:
        gallery = build_gallery(
            model,
            dataset,
            methods=config.explain.methods,
            layer=config.explain.layer,
            cases=config.report.cases,
            seed=config.seed,
        )
    sees_all = not bool(blind.any())
    return ReportContent(
        title=_title(run, dataset, 0 if clients is None else len(clients)),
        mode=config.mode,
        configuration=config.to_dict(),
        dataset_name=dataset.name,
        dataset_source=dataset.source,
        task=dataset.task,
        class_names=list(dataset.class_names),
        split_counts=_split_counts(dataset),
        seeds=[SeedResult(part.config.seed, part.history, part.test) for part in runs],
        layers=summarise_layers(model, shape),
        total_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        client_names=[] if clients is None else list(clients.names),
        client_label_counts=None if clients is None else clients.label_counts(),
        client_sizes=None if clients is None else np.array([len(c) for c in clients]),
        input_shape=shape,
        blind_area=None if sees_all else blind.numpy(),
        blind_light=None
        if sees_all
        else blind_light(dataset.test.images, dataset.test.labels, dataset.classes, blind).numpy(),
        gallery=gallery.groups,
        explain_method=gallery.methods[0] if gallery.methods else "",
        study=comparable_figures(config),
        environment=runs[0].environment,
        notices=_notices(run, runs) + _unexplained(run, gallery),
        privacy=_spending(runs[0], dataset, clients) if private(config) else None,
    )


def _unexplained(run: Run, gallery: Gallery) -> list[str]:
    """Return which methods could not explain the network, and whose maps privacy does not cover."""
    config = run.config
    notices = [
        WITHOUT_METHOD.format(method=method, sentence=sentence)
        for method, sentence in gallery.refused.items()
    ]
    if gallery.refused and not gallery.methods:
        notices.insert(0, UNEXPLAINED.format(network=config.model.name))
    if private(config) and gallery.references:
        names = ", ".join(gallery.references)
        notices.append(REFERENCES_OF_A_PRIVATE_RUN.format(methods=names))
    return notices


def _title(run: Run, dataset: ImageDataset, clients: int) -> str:
    network = f"{run.config.model.name} on {dataset.name}"
    if run.config.mode == "central":
        return f"{network}, trained centrally"
    return f"{network}, trained together by {clients} clients"


def _spending(run: Run, dataset: ImageDataset, clients: Partition | None) -> PrivacySpending:
    """Replay a run's ledger."""
    ledger = open_ledger(RunDirectory(run.path), run.config)
    delta = ledger.terms.delta
    accounts = [
        PrivacyAccount(name, units, ledger.releases(name), ledger.epsilon(name))
        for name, units in ledger.units.items()
    ]
    accounts.sort(key=lambda account: -account.epsilon)
    worst = accounts[0]
    # the noise is what was executed, and need not be calibrated again
    content = run.config.to_dict()
    content["privacy"]["noise_multiplier"] = max(
        (release.noise_multiplier for release in worst.releases), default=0.0
    )
    planned = accounts_of(parse_config(content), dataset, clients)
    check_accounts(ledger, {account.name: account.units for account in planned})
    mechanism = {account.name: account.mechanism for account in planned}[worst.name]
    return PrivacySpending(
        terms=ledger.terms,
        mechanism=mechanism,
        accounts=accounts,
        epsilon_rdp=ledger.epsilon(worst.name, accountant="rdp"),
        attack_bound=worst_attack_bound(account.releases for account in accounts),
        amplification=amplification(
            mechanism, worst.releases, delta, federated=clients is not None
        ),
        verified=ledger.verified,
    )


def _split_counts(dataset: ImageDataset) -> "np.ndarray[Any, np.dtype[np.int64]]":
    rows = []
    for name in ("train", "validation", "test"):
        labels = dataset.split(name).labels
        if labels.dim() == 1:
            rows.append(torch.bincount(labels, minlength=dataset.classes))
        else:
            rows.append(labels.to(torch.int64).sum(0))
    return torch.stack(rows).numpy()


def _notices(run: Run, runs: tuple[Run, ...]) -> list[str]:
    notices = [str(notice) for notice in listed(run.environment, "notices")]
    if not run.config.dataset.hold_out:
        notices.append(
            "dataset.hold_out is off: the validation images were trained on, and what is called "
            "validation here is the test split. Nothing may be chosen by it."
        )
    for part in runs:
        if (part.result or {}).get("ended_early") is True:
            done, planned = len(part.history), units(part.config)
            unit = "rounds" if part.config.mode == "federated" else "epochs"
            which = f" of seed {part.config.seed}" if len(runs) > 1 else ""
            notices.append(
                f"The privacy budget was spent: training{which} ended after {done} of {planned} "
                f"{unit}, before the budget would have been exceeded."
            )
    known = [number((part.result or {}).get("updates_left_out")) for part in runs]
    left_out = int(sum(count for count in known if count > 0))
    if left_out:
        notices.append(
            f"{left_out} client updates were left out of their rounds; metrics.jsonl names each one "
            "and why."
        )
    return notices
