"""Findings of the study of explanations made by hand, and what is said of them."""

from typing import Any

import numpy as np

from fedlens.report.explanation_content import ExplanationStudy, Finding
from fedlens.report.explanation_words import answers

METHODS = ("alpha", "beta, blurred", "gamma", "edges", "random")
CONTROLS = ("edges", "random")
PARTS = ("background", "collar", "sleeves", "body", "hem")
WRONG, RIGHT = "Shirt taken for T-shirt/top", "T-shirt/top, right"


def about(mean: float | None, half: float = 0.02, missing: int = 0) -> dict[str, Any]:
    """Return an interval as the parts write it."""
    if mean is None:
        return {"mean": None, "low": None, "high": None, "images": 0, "missing": 40}
    ends = {"low": mean - half, "high": mean + half}
    return {"mean": mean, **ends, "images": 40 - missing, "missing": missing}


def judged(
    ranks: dict[str, tuple[float, float, float]], lifts: dict[str, dict[str, dict[str, Any]]]
) -> Finding:
    """Return a judged network: mean ranks, and group -> method -> part -> lift."""
    measures = [
        {"key": "road", "title": "ROAD gap", "unit": "probability", "higher_is_better": True,
         "ranked": True, "about": "How far <b>."},
        {"key": "deletion", "title": "Deletion", "unit": "probability", "higher_is_better": False,
         "ranked": True, "about": "Lower is better."},
        {"key": "seeds", "title": "Agreement over seeds", "unit": "correlation",
         "higher_is_better": True, "ranked": False, "about": "Over seeds."},
    ]  # fmt: skip
    rows = []
    for place, key in enumerate(METHODS):
        figures = {"road": about(0.5 - 0.1 * place), "deletion": about(0.3 + 0.01 * place)}
        if key == "gamma":
            figures["road"] = about(0.3, missing=10)
        if key == "random":
            figures["seeds"] = about(None)
        rows.append(
            {
                "key": key, "method": key, "parameters": {}, "control": key in CONTROLS,
                "class_specific": key not in CONTROLS, "seconds_per_image": 0.0123,
                "figures": figures,
            }
        )  # fmt: skip
    groups = [
        {"name": WRONG, "true": "Shirt", "predicted": "T-shirt/top", "right": False},
        {"name": RIGHT, "true": "T-shirt/top", "predicted": "T-shirt/top", "right": True},
    ]
    nothing = about(0.0, 0.05)
    tables = [
        {
            "group": name,
            "areas": [0.4, 0.05, 0.15, 0.35, 0.05],
            "shares": {key: [about(0.2)] * 5 for key in METHODS},
            "lift": {
                key: [lifts.get(name, {}).get(key, {}).get(part, nothing) for part in PARTS]
                for key in METHODS
            },
        }
        for name in (WRONG, RIGHT)
    ]
    triples = [ranks[key] for key in METHODS]
    draws = np.random.default_rng(3)
    arrays: dict[str, Any] = {}
    for name in (WRONG, RIGHT):
        arrays[f"images/{name}"] = draws.integers(256, size=(2, 1, 28, 28)).astype(np.uint8)
        arrays[f"mean-image/{name}"] = arrays[f"images/{name}"].mean((0, 1)).astype(np.uint8)
        for key in METHODS:
            maps = draws.normal(size=(2, 28, 28)).astype(np.float16)
            if key == "gamma":
                maps[0] = 0
            arrays[f"maps/{name}/{key}"] = maps
            arrays[f"mean-map/{name}/{key}"] = maps.mean(0)
    content = {
        "groups": [
            {**group, "images": 20, "found": 90, "indices": list(range(20))} for group in groups
        ],
        "measures": measures,
        "rows": rows,
        "ranking": {
            "measures": ["road", "deletion"],
            "ranks": [[1.0, 1.0]] * 5,
            "mean_rank": [t[0] for t in triples],
            "low": [t[1] for t in triples],
            "high": [t[2] for t in triples],
            "kept": [0.9] * 5,
            "concordance": 0.8,
            "missing": [[0.0, 0.0]] * 5,
        },
        "agreement": {"rows": list(METHODS), "matrix": np.eye(5).tolist()},
        "regions": {"names": list(PARTS), "tables": tables},
        **common({"central": 0.9}),
    }
    return Finding(content, arrays)


def common(accuracy: dict[str, float]) -> dict[str, Any]:
    return {
        "accuracy": accuracy,
        "parameters": dict.fromkeys(accuracy, 1000),
        "size": {"images": 150, "few": 20, "rows": []},
        "runs": dict.fromkeys(accuracy, "0"),
    }


CLEAR = {
    "alpha": (1.5, 1.2, 1.8), "beta, blurred": (2.5, 2.2, 2.8), "gamma": (4.5, 4.2, 4.8),
    "edges": (3.0, 2.9, 3.1), "random": (5.0, 5.0, 5.0),
}  # fmt: skip
UNCLEAR = CLEAR | {"beta, blurred": (1.9, 1.7, 3.0), "gamma": (2.0, 1.6, 2.4)}
SLEEVES = {
    WRONG: {
        "alpha": {"sleeves": about(0.2), "collar": about(0.1)},
        "beta, blurred": {"sleeves": about(0.3)},
        "gamma": {"sleeves": about(0.12)},
    },
    RIGHT: {key: {"sleeves": about(0.05)} for key in METHODS},
}
SPLIT = {
    WRONG: {
        "alpha": {"sleeves": about(0.2)},
        "beta, blurred": {"body": about(0.3)},
    }
}


def alike(means: dict[str, float]) -> dict[str, Any]:
    rows = {
        key: {"spearman": about(value), "top": about(value / 2)} for key, value in means.items()
    }
    same = {"spearman": about(1.0, 0.0), "top": about(1.0, 0.0)}
    return {**rows, **dict.fromkeys(CONTROLS, same)}


def good(road: float, deletion: float = 0.4) -> dict[str, Any]:
    row = {"deletion": about(deletion), "insertion": about(0.8), "road": about(road)}
    return dict.fromkeys(METHODS, row)


def federation(ours: float, chance: float | None, road: float = 0.3) -> Finding:
    spread = ("alpha", "beta, blurred", "gamma")
    content: dict[str, Any] = {
        "groups": [{"name": WRONG, "images": 20}, {"name": RIGHT, "images": 20}],
        "quality": {"central": good(0.3), "federated": good(road)},
        "shared": {"images": 40, "alike": 31},
        "alike": {"federated": alike({key: ours + 0.1 * n for n, key in enumerate(spread)})},
        **common({"central": 0.9, "federated": 0.85}),
    }
    if chance is not None:
        content["quality"]["again"] = good(0.3)
        content["alike"]["again"] = alike({key: chance + 0.1 * n for n, key in enumerate(spread)})
    return Finding(content, {})


def privacy() -> Finding:
    means = {"private-8": 0.4, "private-1": 0.2}
    content = {
        "groups": [{"name": WRONG, "images": 20}],
        "quality": {"central": good(0.3), "private-8": good(0.2), "private-1": good(0.1)},
        "shared": {"images": 20, "alike": 17},
        "alike": {
            role: alike(dict.fromkeys(("alpha", "beta, blurred", "gamma"), mean))
            for role, mean in means.items()
        },
        "epsilon": {"private-8": 8.0, "private-1": 1.0},
        **common({"central": 0.9, "private-8": 0.85, "private-1": 0.8}),
    }
    return Finding(content, {})


def clients(own: float | None, taken: float, twin: float = 0.03) -> Finding:
    def entry(client: int) -> dict[str, Any]:
        mine = client == 1
        alpha = about(own if mine else 0.03 + 0.01 * client)
        shares = {"alpha": alpha, "edges": about(0.04), "gamma": about(None)}
        return {
            "client": client, "examples": 100, "marked": 40 if mine else 0,
            "taken": taken if mine else 0.05, "plain": 0.05, "shares": shares,
        }  # fmt: skip

    rows = alike({"alpha": 0.7, "gamma": 0.6})
    content = {
        "clients": [{"client": n, "examples": 100, "rows": rows} for n in range(3)],
        "shortcut": {
            "client": 1, "class": "Sneaker", "images": 48, "area": 0.02,
            "clients": [entry(n) for n in range(3)],
            "twin": {**entry(0), "client": 1, "shares": {"alpha": about(twin)}},
        },
        **common({"federated": 0.85}),
    }  # fmt: skip
    return Finding(content, {})


def known(figure: float, mark: float | None) -> Finding:
    def found(share: float | None, area: float, taken: float | None) -> dict[str, Any]:
        rows = {key: {"mass": about(share), "pointing": about(0.5)} for key in ("alpha", "gamma")}
        rows["gamma"]["mass"] = about(0.4)
        rows["edges"] = {"mass": about(0.55), "pointing": about(0.5)}
        return {"accuracy": 0.95, "taken": taken, "images": 40, "area": area, "rows": rows}

    images = np.zeros((6, 28, 28), np.uint8)
    content = {
        "shapes": found(figure, 0.15, None),
        "shortcut": found(mark, 0.02, 0.97),
        **common({"shapes": 0.95, "shortcut": 0.5}),
    }
    return Finding(content, {"images/shapes": images, "images/shortcut": images})


STUDY = ExplanationStudy(
    name="explanations",
    title="Explanations <i>held</i> to account",
    about="Every method.",
    findings={
        "judged/one": judged(CLEAR, SLEEVES),
        "judged/two": judged(UNCLEAR, SPLIT),
        "known/one": known(0.9, 0.6),
        "known/two": known(0.7, None),
        "federation/one": federation(0.5, 0.51),
        "federation/two": federation(0.3, 0.5, road=0.2),
        "clients/one": clients(0.3, 0.9),
        "clients/two": clients(0.035, 0.1),
        "privacy/one": privacy(),
        "pairs/one": Finding(
            {
                "pairs": {
                    "Coat / Pullover": {
                        "groups": [{"name": "Coat, right", "images": 9, "found": 12}],
                        "rows": good(0.25),
                    },
                    "Dress / Coat": {"nothing": "There is no mistake."},
                },
                **common({"central": 0.9}),
            },
            {},
        ),
        "pairs/two": Finding({"nothing": "There is nothing to explain.", **common({})}, {}),
    },
    missing=("privacy/two",),
)


def said(study: ExplanationStudy, title: str) -> dict[str, str]:
    """Return who -> text of an answer."""
    answer = next(answer for answer in answers(study) if answer.title == title)
    return {p.who: p.text.replace("\u00a0", " ") for p in answer.paragraphs}


def only(**findings: Finding) -> ExplanationStudy:
    named = {f"{question}/one": finding for question, finding in findings.items()}
    return ExplanationStudy("x", "X", "", named)
