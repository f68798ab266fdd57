"""The parts of the study of explanations: what each needs, and what it finds out.

A part is worked out from finished runs, kept in two files, and not worked out again.
"""

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedlens.experiment.environment import describe_environment
from fedlens.experiment.opened import Run, load_run
from fedlens.experiment.run import partition_of
from fedlens.experiment.study.explanations import clients, comparing, known, measures
from fedlens.experiment.study.explanations.cases import (
    MAIN_PAIR,
    OTHER_PAIRS,
    NothingToExplainError,
    pair_groups,
    reference_images,
)
from fedlens.experiment.study.explanations.judging import Arrays, Watch, judge
from fedlens.experiment.study.explanations.measures import Material
from fedlens.experiment.study.explanations.rows import ROWS, SHORT, Row, rows_for
from fedlens.experiment.study.grid import Cell
from fedlens.explain import METHODS, blind_area
from fedlens.files import without_nan, write_bytes, write_json
from fedlens.models.vector import get_vector

Found = tuple[dict[str, Any], Arrays]

ENVIRONMENT = ("started", "commit", "python", "packages", "processor", "cores")
VERSION = 4  # of how the parts are worked out: goes up when their findings may change


@dataclass(frozen=True)
class Size:
    """How much is explained.

    Attributes:
        images: of a group, at most, in the main table.
        few: of a group in the shorter ones.
        rows: methods of the main table; all without any.
    """

    images: int = 150
    few: int = 20
    rows: tuple[str, ...] = ()


QUICK = Size(images=3, few=2, rows=SHORT)


@dataclass(frozen=True)
class Part:
    """One question about one kind of network.

    Attributes:
        name: ``question/model``, also of its files.
        cells: the runs that it needs, role -> cell.
        work: works it out from the opened runs.
    """

    name: str
    cells: dict[str, Cell]
    work: Callable[[dict[str, Run], Size, Watch], Found]

    def files(self, folder: Path) -> tuple[Path, Path]:
        """Return the JSON and the arrays of the part in the study's folder."""
        stem = folder / "explanations" / self.name
        return stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".npz")

    def done(self, folder: Path, size: Size | None = None) -> bool:
        """Return whether the part was worked out from the runs as they are now.

        Args:
            folder: directory of the study.
            size: how much is to be explained, and as this version does it; None where what there is
                will do.
        """
        plain, _ = self.files(folder)
        if not plain.exists():
            return False
        try:
            kept = json.loads(plain.read_bytes())
        except ValueError:
            return False
        if not isinstance(kept, dict) or kept.get("runs") != self._marks(folder):
            return False
        return size is None or (kept.get("made") == _made() and kept.get("size") == _plain(size))

    def carry_out(self, folder: Path, size: Size, watch: Watch) -> None:
        """Work the part out and keep it; the arrays are written first."""
        runs = {role: load_run(cell.folder(folder)) for role, cell in self.cells.items()}
        torch.set_num_threads(1)
        try:
            content, arrays = self.work(runs, size, watch)
        except NothingToExplainError as error:
            content, arrays = {"nothing": str(error)}, {}
        content["accuracy"] = {role: run.test.accuracy for role, run in runs.items()}
        content["parameters"] = {role: len(get_vector(run.model)) for role, run in runs.items()}
        content["size"], content["made"] = _plain(size), _made()
        content["runs"] = self._marks(folder)
        made_with = describe_environment()
        content["environment"] = {key: made_with[key] for key in ENVIRONMENT}
        plain, packed = self.files(folder)
        plain.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(packed, arrays)
        write_json(plain, without_nan(content))

    def _marks(self, folder: Path) -> dict[str, str]:
        """Return role -> digest of the run's weights."""
        marks = {}
        for role, cell in self.cells.items():
            file = cell.folder(folder) / "model.safetensors"
            marks[role] = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""
        return marks


def _plain(size: Size) -> dict[str, Any]:
    return {**vars(size), "rows": list(size.rows)}


def _made() -> dict[str, Any]:
    """Return what the findings depend on besides the runs and the size."""
    return {
        "version": VERSION,
        "measures": [measures.STEPS, measures.NOISE_SETS, measures.FEW, measures.DRAWS],
        "rows": [[row.key, METHODS[row.method].version, row.parameters] for row in ROWS],
    }


def write_arrays(file: Path, arrays: Arrays) -> None:
    """Write pictures to an uncompressed ``.npz`` atomically: bytes as they are, maps as float16.

    Each array of maps is scaled to a largest value of 1, so that faint ones do not become zero.
    """
    packed = io.BytesIO()
    small = {name.replace("/", "|"): _small(array) for name, array in arrays.items()}
    np.savez(packed, **small)  # type: ignore[arg-type]
    write_bytes(file, packed.getvalue())


def _small(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype == np.uint8:
        return array
    largest = float(np.nanmax(np.abs(array), initial=0))
    scaled = array / largest if largest > 0 else array
    return scaled.astype(np.float16)


def parts_of(cells: Sequence[Cell]) -> list[Part]:
    """Return the parts that the cells of a study can answer, the most telling first.

    Args:
        cells: with the partitions ``central``, ``federated``, ``private-E`` and ``shapes``,
            ``shapes-shortcut``; an algorithm is a network. What is missing has no part.
    """
    by_name = {cell.name: cell for cell in cells}
    models = list(dict.fromkeys(cell.algorithm for cell in cells))
    found: list[Part] = []

    def add(name: str, roles: dict[str, str], work: Callable[..., Found]) -> None:
        if all(cell in by_name for cell in roles.values()):
            found.append(Part(name, {role: by_name[cell] for role, cell in roles.items()}, work))

    for model in models:
        add(f"judged/{model}", {"central": f"central/{model}/0"}, judged)
    for model in models:
        add(
            f"known/{model}",
            {"shapes": f"shapes/{model}/0", "shortcut": f"shapes-shortcut/{model}/0"},
            known_truth,
        )
        federated = {"central": f"central/{model}/0", "federated": f"federated/{model}/0"}
        if f"central/{model}/1" in by_name:
            federated["again"] = f"central/{model}/1"
        add(f"federation/{model}", federated, federation)
        add(f"clients/{model}", {"federated": f"federated/{model}/0"}, own_models)
        budgets = {
            cell.partition: cell.name
            for cell in cells
            if cell.algorithm == model and cell.partition.startswith("private-") and cell.seed == 0
        }
        if budgets:
            add(f"privacy/{model}", {"central": f"central/{model}/0", **budgets}, privacy)
    for model in models:
        add(f"pairs/{model}", {"central": f"central/{model}/0"}, pairs)
    return found


def judged(runs: dict[str, Run], size: Size, watch: Watch) -> Found:
    """Every method by every measure, on the main pair."""
    material, rows = _material(runs["central"], MAIN_PAIR, size.images, size.rows)
    return judge(material, rows, watch, regions=True)


def pairs(runs: dict[str, Run], size: Size, watch: Watch) -> Found:
    """Shorter tables of the other pairs."""
    content: dict[str, Any] = {}
    for place, pair in enumerate(OTHER_PAIRS):
        watch(place / len(OTHER_PAIRS), " and ".join(pair))
        try:
            material, rows = _material(runs["central"], pair, size.few, SHORT)
        except NothingToExplainError as error:
            content[" / ".join(pair)] = {"nothing": str(error)}
            continue
        maps = comparing.maps_of(runs["central"].model, material, rows)
        content[" / ".join(pair)] = {
            "groups": [
                {"name": group.name, "images": len(group), "found": group.found}
                for group in material.groups
            ],
            "rows": comparing.quality(runs["central"].model, material, rows, maps),
        }
    return {"pairs": content}, {}


def federation(runs: dict[str, Run], size: Size, watch: Watch) -> Found:
    """Central against federated maps, beside two central trainings, and the federated quality."""
    return _against_central(runs, size, watch)


def privacy(runs: dict[str, Run], size: Size, watch: Watch) -> Found:
    """Maps without privacy against maps at each budget, and how good those are for themselves."""
    content, arrays = _against_central(runs, size, watch)
    content["epsilon"] = {
        role: run.config.privacy.epsilon for role, run in runs.items() if role != "central"
    }
    return content, arrays


def own_models(runs: dict[str, Run], size: Size, watch: Watch) -> Found:
    """Each client's own model against the global one, and the client with a planted shortcut."""
    run = runs["federated"]
    material, rows = _material(run, MAIN_PAIR, size.few, SHORT)
    rows = [row for row in rows if row.method not in ("kernel-shap", "occlusion")]
    held = partition_of(run.config, run.dataset)
    local = run.config.local_training()
    together = comparing.maps_of(run.model, material, rows)
    found = []
    own = clients.local_models(run.model, list(held), local, run.config.seed)
    for number, model in enumerate(own):
        watch(number / (2 * len(held)), f"client {number + 1}")
        alone = comparing.maps_of(model, material, rows)
        found.append(
            {
                "client": number,
                "examples": len(held[number]),
                "rows": comparing.compared(material, rows, together, alone),
            }
        )
    watch(0.5, "a planted shortcut")
    cheat = clients.shortcut(
        run.model, run.dataset, held, local, rows, material.references, run.config.seed
    )
    return {"clients": found, "shortcut": cheat}, {}


def known_truth(runs: dict[str, Run], size: Size, watch: Watch) -> Found:
    """Where the evidence is known: does a method find it, and does it expose the shortcut."""
    content = {}
    for place, (role, run) in enumerate(runs.items()):
        watch(place / len(runs), run.dataset.name)
        references = reference_images(run.dataset, run.config.seed)
        rows = rows_for(run.model, run.dataset.test.images[:1], references, size.rows)
        content[role] = known.localisation(
            run.model, rows, shortcut=role == "shortcut", seed=run.config.seed
        )
    return content, {
        "images/shapes": known.sample(shortcut=False).numpy(),
        "images/shortcut": known.sample(shortcut=True).numpy(),
    }


def _against_central(runs: dict[str, Run], size: Size, watch: Watch) -> Found:
    central = runs["central"]
    material, rows = _material(central, MAIN_PAIR, size.few, SHORT)
    first = comparing.maps_of(central.model, material, rows)
    kept = comparing.shared_answers([run.model for run in runs.values()], material)
    content: dict[str, Any] = {
        "groups": [{"name": group.name, "images": len(group)} for group in material.groups],
        "shared": {
            "images": sum(len(group) for group in material.groups),
            "alike": int(sum(np.isfinite(some).sum() for some in kept)),
        },
        "quality": {"central": comparing.quality(central.model, material, rows, first, kept)},
        "alike": {},
    }
    arrays: Arrays = {}
    others = {role: run for role, run in runs.items() if role != "central"}
    for place, (role, run) in enumerate(others.items()):
        watch((place + 1) / (len(others) + 1), role)
        second = comparing.maps_of(run.model, material, rows)
        content["alike"][role] = comparing.compared(material, rows, first, second)
        content["quality"][role] = comparing.quality(run.model, material, rows, second, kept)
        for row in rows:
            arrays[f"maps/{role}/{row.key}"] = second[row.key][0][:1].numpy()
    arrays["images"] = material.groups[0].images[:1].numpy()
    for row in rows:
        arrays[f"maps/central/{row.key}"] = first[row.key][0][:1].numpy()
    return content, arrays


def _material(
    run: Run, pair: Sequence[str], most: int, keys: Sequence[str]
) -> tuple[Material, list[Row]]:
    dataset, model, seed = run.dataset, run.model, run.config.seed
    references = reference_images(dataset, seed)
    seen: Tensor = ~blind_area(model, tuple(dataset.test.images.shape[1:]), seed=seed)  # type: ignore[arg-type]
    groups = pair_groups(model, dataset, pair, most, seed)
    rows = rows_for(model, dataset.test.images[:1], references, keys)
    return Material(model, groups, references, seen, seed), rows
