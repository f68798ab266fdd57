"""KernelSHAP and LIME of fedlens against captum's, per image, and what exact Shapley values cost.

    FEDLENS_DATA=... python benchmarks/explanations.py [--json] [--out FILE]

One thread (of BLAS too), the study's network with fresh weights, Fashion-MNIST test images, 49
patches of 4 x 4 pixels, 1,000 samples, black for what is absent. Ours explains a batch of 64 images
in one call; captum takes one image at a time, so that fewer images are enough, with the
``perturbations_per_eval`` that was fastest in a trial before. Both are asked for the predicted
class, which captum is told. Of captum's LIME there are two: as it comes (lasso, and the distance of
images), and with the kernel and the ridge regression of ours. The runs take turns; times are of the
processor, so that what else the machine does counts little.

- ``times_faster``: median over the repeats of captum's time per image over ours;
- ``forward_share``: the part of our time that is spent in the network;
- ``rows``: microseconds per masked image by the rows of a forward pass, masks included;
- ``exact_shapley``: seconds per image and peak memory for 16 patches, in a process of its own;
- ``parity``: the largest difference to shap's and lime's own code on the same numbers, where these
  packages can be imported (fedlens does not depend on them).
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.linear_model  # noqa: F401 - loads the BLAS that is limited to one thread below
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import KernelShap, Lime
from grad_cam import test_images
from results import report, start_on_one_thread
from threadpoolctl import threadpool_limits
from torch import Tensor

from fedlens.explain import Context, explain
from fedlens.explain.coalitions import all_coalitions, coalition_scores
from fedlens.explain.methods.lime import lime_regression
from fedlens.explain.methods.shapley import exact_shapley, kernel_shap_values, kernel_weights
from fedlens.explain.segments import grid_segments
from fedlens.models.paper_cnn import PaperCNN

SAMPLES = 1000
OURS: dict[str, dict[str, Any]] = {"kernel-shap": {}, "lime": {"fill": "black"}}
PEERS = {
    "captum kernel-shap": "kernel-shap",
    "captum lime": "lime",
    "captum lime, our kernel and ridge": "lime",
}
PER_EVAL = (16, 64, 250, 1000)
ROWS = (16, 32, 64, 128, 256, 512)


def network() -> PaperCNN:
    return PaperCNN(1, 10, 28, torch.Generator().manual_seed(42)).eval()


def lime_weight(_whole: Tensor, _masked: Tensor, present: Tensor, **_: Any) -> Tensor:
    distance = 1 - (present.sum() / present.numel()).sqrt()
    return torch.exp(-distance.square() / (2 * 0.25**2))


def captums(model: PaperCNN) -> dict[str, KernelShap | Lime]:
    same = Lime(model, SkLearnRidge(alpha=1.0), lime_weight)
    return dict(zip(PEERS, (KernelShap(model), Lime(model), same), strict=True))


def run_captum(method: KernelShap | Lime, images: Tensor, per_eval: int) -> None:
    patches = grid_segments(28, 28, 7)[None, None]
    for image in images[:, None]:
        with torch.no_grad():
            predicted = int(method.forward_func(image).argmax())
        method.attribute(
            image,
            baselines=0.0,
            target=predicted,
            feature_mask=patches,
            n_samples=SAMPLES,
            perturbations_per_eval=per_eval,
        )


def run_ours(model: PaperCNN, method: str, images: Tensor) -> None:
    explain(model, images, method, samples=SAMPLES, batch_size=len(images), **OURS[method])


def forward_share(model: PaperCNN, method: str, images: Tensor) -> float:
    """Return the part of the time of one call that is spent in the network's ``forward``."""
    inside = 0.0
    forward = model.forward

    def timed(given: Tensor) -> Tensor:
        nonlocal inside
        start = time.process_time()
        logits = forward(given)
        inside += time.process_time() - start
        return logits

    model.forward = timed  # type: ignore[method-assign]
    start = time.process_time()
    run_ours(model, method, images)
    total = time.process_time() - start
    del model.forward
    return inside / total


def against_captum(model: PaperCNN, images: Tensor, few: int, repeats: int) -> dict[str, Any]:
    others = captums(model)
    trials = {
        name: measure({str(n): bound(run_captum, other, images[:1], n) for n in PER_EVAL}, 2)
        for name, other in others.items()
    }
    best = {name: min(PER_EVAL, key=lambda n: min(times[str(n)])) for name, times in trials.items()}
    runs = {name: bound(run_ours, model, name, images) for name in OURS}
    runs |= {name: bound(run_captum, others[name], images[:few], best[name]) for name in PEERS}
    seconds = measure(runs, repeats)
    each = {
        name: [1000 * t / (few if name in PEERS else len(images)) for t in times]
        for name, times in seconds.items()
    }
    faster = {
        peer: statistics.median(b / a for a, b in zip(each[ours], each[peer], strict=True))
        for peer, ours in PEERS.items()
    }
    return {
        "milliseconds_per_image": {n: round(statistics.median(t), 1) for n, t in each.items()},
        "times_faster": {name: round(value, 2) for name, value in faster.items()},
        "captum_perturbations_per_eval": best,
        "captum_trial_milliseconds": {
            name: {n: round(1000 * min(times), 1) for n, times in trial.items()}
            for name, trial in trials.items()
        },
        "forward_share": {name: round(forward_share(model, name, images[:8]), 3) for name in OURS},
    }


def measure(runs: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Return the processor's seconds of each repeat; the order turns round from one to the next."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name in list(runs) if repeat % 2 == 0 else list(reversed(runs)):
            start = time.process_time()
            runs[name]()
            if repeat > 0:  # the first round warms up
                seconds[name].append(time.process_time() - start)
    return seconds


def bound(run: Callable[..., None], *arguments: Any) -> Callable[[], None]:
    return lambda: run(*arguments)


def rows(model: PaperCNN, images: Tensor) -> dict[int, float]:
    """Return microseconds per masked image by the number of rows of a forward pass."""
    coalitions = torch.rand(1024, 49, generator=torch.Generator().manual_seed(0)) < 0.5
    segments, black = grid_segments(28, 28, 7), torch.zeros_like(images)
    target = torch.zeros(len(images), dtype=torch.int64)

    def run(count: int) -> None:
        with torch.no_grad():
            context = Context(model, rows=count)
            coalition_scores(context, images, black, segments, coalitions, target)

    seconds = measure({str(count): bound(run, count) for count in ROWS}, 5)
    masked = len(images) * len(coalitions)
    return {n: round(1e6 * statistics.median(seconds[str(n)]) / masked, 1) for n in ROWS}


def exact(count: int) -> dict[str, float]:
    """Explain ``count`` images by exact Shapley values of 16 patches, in this process."""
    images, model = test_images(count), network()
    before = peak_gigabytes()
    start = time.process_time()
    explain(model, images, "exact-shapley", batch_size=count)
    return {
        "images": count,
        "seconds_per_image": round((time.process_time() - start) / count, 2),
        "peak_gigabytes": round(peak_gigabytes(), 3),
        "of_which_before_the_call": round(before, 3),
    }


def peak_gigabytes() -> float:
    """Return the peak memory of this process.

    From the kernel's status where there is one: what ``getrusage`` says of a child of fork and exec
    begins with the peak of its parent.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (each for each in status.read_text().splitlines() if each.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def exact_elsewhere(count: int) -> dict[str, float]:
    """Return :func:`exact` of a fresh process, whose peak memory is its own."""
    command = [sys.executable, __file__, "--exact-only", "--exact-images", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def parity(model: PaperCNN, images: Tensor) -> dict[str, float | None]:
    """Return the largest differences to shap and lime on one game of 9 patches."""
    coalitions, black = all_coalitions(9), torch.zeros_like(images)
    with torch.no_grad():
        scores = coalition_scores(
            Context(model),
            images,
            black,
            grid_segments(28, 28, 3),
            coalitions,
            model(images).argmax(1),
        )
    bits = 2 ** np.arange(9)
    none, whole = np.zeros((1, 9)), np.ones((1, 9))
    found: dict[str, float | None] = dict.fromkeys(
        ("shap Exact", "shap KernelExplainer", "lime LimeBase")
    )
    try:
        import shap
    except ImportError:
        pass
    else:
        inner = coalitions[1:-1]
        kernel = kernel_weights(9)[inner.sum(1) - 1]
        ours = exact_shapley(scores).numpy()
        by_kernel = kernel_shap_values(inner, scores[:, 1:-1], scores[:, 0], scores[:, -1], kernel)
        theirs, theirs_by_kernel = [], []
        for worth in scores.numpy():

            def game(masks: np.ndarray, worth: np.ndarray = worth) -> np.ndarray:
                return worth[(np.asarray(masks) > 0.5) @ bits]

            masker = shap.maskers.Independent(none)
            theirs.append(shap.explainers.ExactExplainer(game, masker)(whole).values[0])
            sampler = shap.KernelExplainer(game, none)
            theirs_by_kernel.append(
                sampler.shap_values(whole, nsamples=2**9, l1_reg=False, silent=True)[0]
            )
        found["shap Exact"] = float(np.abs(ours - np.stack(theirs)).max())
        found["shap KernelExplainer"] = float(
            np.abs(by_kernel.numpy() - np.stack(theirs_by_kernel)).max()
        )
    try:
        from lime.lime_base import LimeBase
        from sklearn.metrics import pairwise_distances
    except ImportError:
        pass
    else:
        # The whole image first, as lime has it; the regression is taken over all coalitions.
        order = torch.arange(len(coalitions)).flip(0)
        present, labels = coalitions[order].numpy().astype(float), scores[:, order].T.numpy()
        distances = pairwise_distances(present, present[:1], metric="cosine").ravel()
        base = LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / 0.25**2)))
        coefficients, intercepts, fits = lime_regression(coalitions[order], scores[:, order])
        worst = 0.0
        for number in range(len(images)):
            intercept, pairs, fit, _ = base.explain_instance_with_data(
                present, labels, distances, number, 9, feature_selection="none"
            )
            theirs_now = np.array([value for _, value in sorted(pairs)])
            worst = max(
                worst,
                float(np.abs(coefficients[number].numpy() - theirs_now).max()),
                abs(float(intercepts[number]) - float(intercept)),
                abs(float(fits[number]) - float(fit)),
            )
        found["lime LimeBase"] = worst
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Time KernelSHAP and LIME against captum's.")
    parser.add_argument("--images", type=int, default=64, help="of a batch of ours")
    parser.add_argument("--captum-images", type=int, default=4)
    parser.add_argument("--exact-images", type=int, default=64, help="0 leaves exact values out")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--exact-only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--out", type=Path, help="write the result as JSON to this file")
    arguments = parser.parse_args()
    start_on_one_thread()
    threadpool_limits(1)  # scikit-learn's BLAS, which captum calls
    if arguments.exact_only:
        print(json.dumps(exact(arguments.exact_images)))
        return

    images, model = test_images(arguments.images), network()
    result: dict[str, Any] = {"images": len(images), "patches": 49, "samples": SAMPLES}
    result |= against_captum(model, images, arguments.captum_images, arguments.repeats)
    result["rows_microseconds"] = rows(model, images[:4])
    result["parity"] = parity(model, images[:4])
    if arguments.exact_images > 0:
        result["exact_shapley"] = exact_elsewhere(arguments.exact_images)
    targets = {
        "times_faster": "at least 3",
        "forward_share": "at least 0.6",
        "exact_shapley": "peak under 2 GB",
    }
    report("Explanations by perturbation", result, targets, arguments.json, arguments.out)


if __name__ == "__main__":
    main()
