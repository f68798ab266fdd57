"""The configuration: defaults, files, overrides, and sentences for what cannot be."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlens.errors import ConfigError
from fedlens.experiment.config import (
    Config,
    load_config,
    parse_config,
    presets,
    write_config,
)
from fedlens.experiment.documentation import describe_keys
from fedlens.experiment.quick import quick_values


def test_defaults_are_resolved() -> None:
    config = load_config()
    assert config.dataset.name == "fashion-mnist"
    assert config.partition.alpha == 0.5
    assert config.federation.clients == 10
    assert config.partition.classes_per_client is None


def test_later_sources_win_and_keep_what_they_do_not_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("seed = 5\n[local]\nlr = 0.2\nmomentum = 0.5\n[partition]\nalpha = 0.1\n")
    config = load_config(file, preset="first", overrides=["local.lr=0.3", "federation.cohort=0.5"])
    assert (config.seed, config.local.lr, config.local.momentum) == (5, 0.3, 0.5)
    assert (config.partition.alpha, config.federation.cohort) == (0.1, 0.5)


def test_a_bare_word_is_text_and_toml_is_toml() -> None:
    config = load_config(
        overrides=[
            "partition.scheme=iid",
            "local.epochs=[1, 4]",
            "federation.cohort=3",
            "partition.drop=true",
        ]
    )
    assert config.partition.scheme == "iid"
    assert config.local_training().epochs == (1, 4)
    assert config.cohort() == 3
    assert config.partition.drop is True


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_valid_and_survives_being_written(name: str) -> None:
    config = load_config(preset=name)
    content = tomllib.loads(write_config(config))
    assert content.pop("format") == 2
    assert parse_config(content) == config


def test_methods_of_explanation_are_a_name_or_a_list() -> None:
    one = load_config(overrides=["explain.method=lime"])
    assert one.explain.methods == ["lime"] and one.to_dict()["explain"] == {"method": "lime"}
    several = load_config(overrides=['explain.method=["grad-cam", "lime"]'])
    assert several.explain.methods == ["grad-cam", "lime"]
    assert parse_config(several.to_dict()) == several


def test_the_paper_preset_is_the_studys_protocol() -> None:
    config = load_config(preset="paper")
    local = config.local_training()
    assert config.mode == "central"
    assert (local.epochs, local.batch_size, local.optimizer, local.lr) == (15, 32, "adam", 1e-3)
    assert config.repeats == 3


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("local.learning_rate=0.1", ["local.learning_rate", "[local]", "lr"]),
        ("locl.lr=0.1", ["locl", "'local'"]),
        ("local.lr=-1", ["local.lr", "-1", "above 0"]),
        ("local.lr=fast", ["local.lr", "fast", "number"]),
        ("local.lr=nan", ["local.lr"]),
        ("local.optimizer=lion", ["local.optimizer", "lion", "sgd", "adam"]),
        ("local.epochs=[3, 1]", ["local.epochs", "low <= high"]),
        ("local.batch_size=0", ["local.batch_size"]),
        ("partition.scheme=dirichelt", ["partition.scheme", "'dirichlet'"]),
        ("partition.alpha=0", ["partition.alpha", "0"]),
        ("partition.classes_per_client=2", ["partition.classes_per_client", "dirichlet"]),
        ("federation.algorithm=fedsgd", ["federation.algorithm", "fedavg"]),
        ("federation.parameters.mu=0.1", ["federation.parameters.mu", "server_lr"]),
        ("federation.parameters.server_lr=0", ["server_lr", "above 0"]),
        ("federation.cohort=11", ["federation.cohort", "11", "10"]),
        ("federation.cohort=1.0", ["federation.cohort"]),
        ("federation.rounds=0", ["federation.rounds"]),
        ("model.name=resnet", ["model.name", "resnet", "paper-cnn"]),
        ("explain.method=magic", ["explain.method", "grad-cam"]),
        ('explain.method=["lime", "gradcam"]', ["explain.method", "gradcam", "'grad-cam'?"]),
        ("explain.method=[]", ["explain.method", "one method or more"]),
        ('explain.method=["lime", "lime"]', ["explain.method", "each once"]),
        ("explain.method=[3]", ["explain.method", "text or list of text"]),
        ("privacy.mechanism=gaussian", ["privacy.mechanism", "none"]),
        ("mode=swarm", ["mode", "swarm", "federated", "central"]),
        ("seed=-1", ["seed", "-1"]),
        ("seed=true", ["seed", "True"]),
        ("dataset.path=''", ["dataset.path"]),
        ("local.batch_size=1180591620717411303424", ["local.batch_size"]),
        ("local.threads=2", ["local.threads", "federated"]),
        ("local.threads=257", ["local.threads", "257", "256"]),
        ("local.lr", ["--set", "key=value"]),
        ("=3", ["--set", "key=value"]),
        ("local=3", ["local", "3"]),
    ],
)
def test_what_cannot_be_is_named_in_one_sentence(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=[override])
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert "\n" not in text
    assert "pydantic" not in text


def test_central_training_has_no_faults() -> None:
    with pytest.raises(ConfigError, match="faults is set, but mode 'central' has no clients"):
        load_config(overrides=["mode=central", "faults.dropout=0.1"])


def test_files_that_are_not_configurations_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Could not read"):
        load_config(tmp_path / "missing.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[local\nlr = 1")
    with pytest.raises(ConfigError, match=r"broken\.toml is not valid TOML"):
        load_config(broken)
    broken.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a text file"):
        load_config(broken)
    with pytest.raises(ConfigError, match=r"preset is 'frist'.*'first'"):
        load_config(preset="frist")


def test_class_lists_of_two_sources_do_not_mix(tmp_path: Path) -> None:
    file = tmp_path / "lists.toml"
    file.write_text(
        '[partition]\nscheme = "class-lists"\n[partition.class_lists]\n'
        'footwear = ["Sandal", "Sneaker", "Ankle boot"]\nchildren = ["T-shirt/top", 3]\n'
    )
    config = load_config(file)
    assert config.partition.class_lists == {
        "footwear": ["Sandal", "Sneaker", "Ankle boot"],
        "children": ["T-shirt/top", 3],
    }
    assert config.federation.clients is None
    other = load_config(
        file,
        overrides=[
            "partition.class_lists.bags=['Bag', 'Ankle boot']",
            "partition.class_lists.tops=['Shirt']",
        ],
    )
    assert other.partition.class_lists == {"bags": ["Bag", "Ankle boot"], "tops": ["Shirt"]}


def test_defaults_are_not_shared_between_configurations() -> None:
    first = load_config(overrides=["partition.scheme=quantity"])
    second = Config(**{"partition": {"scheme": "iid"}})
    assert (first.partition.alpha, second.partition.alpha) == (0.5, None)


def test_quick_is_small_and_keeps_the_rest() -> None:
    quick = quick_values(load_config(preset="paper"))
    assert (quick.repeats, quick.dataset.limit, quick.local.epochs) == (1, 2000, 2)
    assert quick.local.optimizer == "adam"


def test_a_choice_takes_what_belonged_to_the_old_one_with_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[partition]\nalpha = 0.1\n[local]\noptimizer = "sgd"\nmomentum = 0.9\n')
    config = load_config(file, overrides=["partition.scheme=iid", "local.optimizer=adam"])
    assert (config.partition.alpha, config.local.momentum) == (None, 0.0)
    with pytest.raises(ConfigError, match=r"local\.momentum"):
        load_config(file, overrides=["local.momentum=0.5", "local.optimizer=adam"])


def test_the_configuration_of_a_run_can_be_run_again(tmp_path: Path) -> None:
    config = load_config(preset="paper")
    file = tmp_path / "config.toml"
    file.write_text(write_config(config))
    assert load_config(file) == config
    file.write_text(write_config(config).replace("format = 2", "format = 3"))
    with pytest.raises(ConfigError, match="format 3, expected 2"):
        load_config(file)


def test_the_examples_of_the_help_are_valid() -> None:
    """Each stands on the preset that the command starts from."""
    for values in (
        ["partition.scheme=classes", "federation.rounds=20"],
        ["dataset.path=scans.npz", "partition.scheme=group"],
        ["partition.scheme=classes", "partition.classes_per_client=2"],
        ["partition.alpha=0.1", "federation.clients=20"],
        ["partition.scheme=iid"],
        ["local.optimizer=adam", "local.lr=0.001"],
    ):
        config = load_config(preset="first", overrides=values)
        # as many clients as groups: a number from the preset would be refused
        by_group = config.partition.scheme == "group"
        assert (config.federation.clients is None) == by_group
    load_config(preset="paper", overrides=["repeats=1"])
    assert load_config(preset="private").federation.clients == 10


def test_every_key_is_described() -> None:
    rows = describe_keys()
    keys = [row[0] for row in rows]
    assert {"seed", "local.lr", "federation.cohort", "privacy.mechanism"} <= set(keys)
    assert all(values and meaning for _, values, _, meaning in rows)
    assert len(keys) == len(set(keys))


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_override_raises_anything_but_a_sentence(key: str, value: str) -> None:
    try:
        load_config(overrides=[f"{key}={value}"])
    except ConfigError as error:
        assert str(error)
