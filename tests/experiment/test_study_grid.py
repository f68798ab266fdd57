"""Files of studies that cannot be."""

from pathlib import Path

import pytest

from fedlens.errors import ConfigError
from fedlens.experiment.study.grid import load_study, studies

GOOD = """
title = "t"
seeds = [0]
[base.dataset]
name = "digits"
[partitions.a]
title = "A"
set.partition = { scheme = "iid" }
[algorithms.b]
title = "B"
set.federation = { algorithm = "fedavg" }
"""


def write(folder: Path, text: str) -> str:
    (folder / "s.toml").write_text(text)
    return str(folder / "s.toml")


def test_every_study_that_comes_along_can_be_read() -> None:
    assert "noniid" in studies()
    for name in studies():
        study = load_study(name)
        assert len({cell.name for cell in study.cells}) == len(study.cells)
        for pattern in study.file.first:
            assert study.choose([pattern])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[partitions.a]", '[partitions.".."]', "letters, digits, dots and"),
        ("[partitions.a]", "[partitions." + "a" * 65 + "]", "at most 64"),
        ("seeds = [0]", "seeds = [0, 0]", "twice"),
        ("seeds = [0]", "seeds = [true]", "seeds"),
        ("seeds = [0]", "seeds = []", "seeds"),
        ("seeds = [0]", "seeds = [" + "9" * 5000 + "]", "not valid TOML"),
        ("seeds = [0]", "seeds = " + "[" * 3000 + "]" * 3000, "not valid TOML|seeds"),
        ('title = "t"', 'title = "t"\nnonsense = 1', "nonsense"),
        ('scheme = "iid"', 'scheme = "nope"', "a/b/0.*nope"),
        (
            "[algorithms.b]",
            '[partitions.c]\ntitle = "C"\nset.dataset = { name = "fashion-mnist" }\n[algorithms.b]',
            "share one image set.*digits, fashion-mnist",
        ),
    ],
)
def test_a_study_that_cannot_be_is_one_sentence(tmp_path: Path, old, new, words) -> None:
    assert load_study(write(tmp_path, GOOD)).cells[0].name == "a/b/0"
    with pytest.raises(ConfigError, match=words):
        load_study(write(tmp_path, GOOD.replace(old, new)))


def test_a_partition_may_set_more_for_some_algorithms_and_cells_may_be_left_out(
    tmp_path: Path,
) -> None:
    path = tmp_path / "some.toml"
    path.write_text(
        """
title = "Some"
seeds = [0, 1]
leave_out = ["*/fedprox/1"]
[base]
mode = "central"
[base.dataset]
name = "digits"
[partitions.a]
title = "A"
set.local = { lr = 0.5 }
where."fedp*" = { local = { lr = 0.125 } }
[partitions.b]
title = "B"
set.mode = "federated"
[algorithms.fedavg]
title = "FedAvg"
set = {}
[algorithms.fedprox]
title = "FedProx"
set.federation = { algorithm = "fedprox" }
"""
    )
    study = load_study(str(path))
    rates = {cell.name: (cell.config.mode, cell.config.local.lr) for cell in study.cells}
    assert rates == {
        "a/fedavg/0": ("central", 0.5),
        "a/fedavg/1": ("central", 0.5),
        "a/fedprox/0": ("central", 0.125),
        "b/fedavg/0": ("federated", 0.05),
        "b/fedavg/1": ("federated", 0.05),
        "b/fedprox/0": ("federated", 0.05),
    }
    path.write_text(path.read_text().replace('"fedp*"', '"fedq*"'))
    with pytest.raises(ConfigError, match=r"partitions\.a\.where: 'fedq\*' matches no algorithm"):
        load_study(str(path))
