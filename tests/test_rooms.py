"""Imports run only downward between rooms: DESIGN, section 2."""

import ast
from pathlib import Path

import pytest

import fedlens

ROOT = Path(fedlens.__file__).parent
FLOORS = {
    "cli": 4,
    "experiment": 3,
    "deploy": 3,
    "review": 3,
    "federated": 2,
    "report": 2,
    "training": 1,
    "attacks": 1,
    "data": 0,
    "models": 0,
    "privacy": 0,
    "explain": 0,
}
CELLAR = {"errors", "randomness", "files"}  # below every room


def imported(source: str) -> set[str]:
    """Return the dotted fedlens modules that ``source`` imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            found.add(node.module)
            if node.module == "fedlens":
                found |= {f"fedlens.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "fedlens"}


def complaints(room: str, source: str) -> list[str]:
    """Return what of ``source``, lying in ``room``, runs upward or sideways."""
    bad = []
    for name in imported(source):
        parts = name.split(".")
        if len(parts) == 1 or parts[1] in CELLAR or parts[1] == room:
            continue
        if parts[1] not in FLOORS:
            if not (room == "cli" and parts[1] == "__version__"):
                bad.append(name)
        elif room in CELLAR or FLOORS[parts[1]] >= FLOORS[room]:
            bad.append(name)
    return bad


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_imports_run_downward(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    if parts == ("__init__.py",):
        return  # the shop window: it shows what every room offers
    room = parts[0].removesuffix(".py")
    assert room in FLOORS or room in CELLAR, f"{room} has no place in the house"
    assert complaints(room, path.read_text()) == []


def test_an_upward_and_a_sideways_import_are_noticed() -> None:
    assert complaints("data", "from fedlens.federated import federate") == ["fedlens.federated"]
    assert complaints("explain", "import fedlens.models.vector") == ["fedlens.models.vector"]
    assert complaints("errors", "from fedlens.data import Split") == ["fedlens.data"]
    assert complaints("training", "from fedlens.data.client import Client") == []


def test_no_module_outgrows_its_room() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in ROOT.rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 420
    }
    assert long == {}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_unsafe_is_called(path: Path) -> None:
    """No pickle from disk, no global random state, no print in the library."""
    source = path.read_text()
    for forbidden in (
        "import pickle",
        "torch.load(",
        "np.random.seed",
        "np.random.rand",
        "shell=True",
    ):
        assert forbidden not in source
    names = {
        node.func.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "print" not in names
