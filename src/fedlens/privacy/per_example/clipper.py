"""The sum of clipped per-example gradients, the private half of a step of DP-SGD.

Each example's gradient g over all trainable parameters together becomes g min(1, C / ||g||), so that
one example moves the sum by at most C (Abadi et al. 2016, arXiv:1607.00133, algorithm 1). Noise is
not added here.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedlens.errors import ModelError
from fedlens.privacy.per_example.clipping import add_clipped
from fedlens.privacy.per_example.gradients import (
    ChunkGradients,
    Loss,
    Task,
    UncaughtUseError,
    by_loop,
    by_rules,
    by_vmap,
    full_precision,
)
from fedlens.privacy.per_example.layout import FlatLayout
from fedlens.randomness import local_torch_seed

LEAST_CHUNK, LARGEST_CHUNK, CHUNK_BYTES = 16, 256, 64 << 20
_TRIAL = 3  # examples: few, but a wrong share of one cannot hide
_TRIAL_TOLERANCE = 0.01  # of an example's norm; rounding is far below it, a wrong rule far above

Way = Callable[[Task, Tensor, Tensor], ChunkGradients]


@dataclass(frozen=True, eq=False)
class ClippedSum:
    """What was seen while clipping the gradients of N examples; all of it is private.

    Attributes:
        norms: (N,) 2-norm of each example's gradient before clipping; NaN or inf where it is not
            finite.
        losses: (N,) loss of each example, the mean over its views.
        outputs: (N, ...) outputs of the network, (N, K, ...) with K > 1 views; (0,) if N = 0.
        not_finite: examples whose gradient is not finite; they count as zero in the sum.
    """

    norms: Tensor
    losses: Tensor
    outputs: Tensor
    not_finite: int


class PerExampleClipper:
    """Clips the gradient of each example of a batch and sums up.

    The network must treat each example by itself. Layers that are made of ``conv2d``, ``linear``,
    ``group_norm``, ``layer_norm`` and elementwise operations go a fast way, which the first batch
    checks against plain autograd, example by example; any other network goes through ``torch.func``,
    at several times the cost, after a warning that says why.

    Nothing of the network is changed, neither ``.grad`` nor ``requires_grad``, and no hooks are set.

    Attributes:
        clip_norm: C, greater than 0; may be set between calls.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        clip_norm: float,
        chunk: int | None = None,
        multiplicity: int = 1,
    ) -> None:
        """Prepare to clip the gradients of ``model``.

        Args:
            model: the network, in training or evaluation mode as it will be at each call. Its
                trainable parameters are looked up anew at each call.
            loss: ``loss(outputs, targets)`` returns one value per row, shape (N,).
            clip_norm: C.
            chunk: rows (examples times views) of one forward and backward pass; by default as many,
                from 16 to 256, as have gradients of 64 MiB if all were written out. Each pass has a
                fixed cost, so that a few large chunks are faster than many small ones.
            multiplicity: K, views of each example whose mean gradient is clipped once (De et al.
                2022, arXiv:2204.13650, section 3.2). Above 1 the inputs are (N, K, ...).

        Raises:
            ModelError: a number is out of range, or a layer uses statistics of the batch, through
                which one example would change the gradients of the others.
        """
        _check_clip_norm(clip_norm)
        if chunk is None:
            parameters = sum(p.numel() * p.element_size() for p in model.parameters())
            chunk = max(LEAST_CHUNK, min(LARGEST_CHUNK, CHUNK_BYTES // max(1, parameters)))
        if chunk < 1 or multiplicity < 1:
            raise ModelError(
                f"Chunk and multiplicity must be at least 1, got {chunk} and {multiplicity}."
            )
        _refuse_batch_statistics(model)
        self.clip_norm = clip_norm
        self._model = model
        self._loss = loss
        self._examples = max(1, chunk // multiplicity)
        self._views = multiplicity
        self._way: Way = by_rules
        self._tried: set[tuple[object, ...]] = set()

    def clipped_sum(self, inputs: Tensor, targets: Tensor, out: Tensor) -> ClippedSum:
        """Add the sum over the examples of g min(1, C / ||g||) to ``out``.

        If an exception is raised, ``out`` is as it was.

        Args:
            inputs: (N, ...), or (N, K, ...) with K > 1 views; on the model's device.
            targets: (N, ...), one for each example.
            out: (P,) float64 or of the model's dtype; layout: the trainable parameters in
                ``named_parameters`` order, each row-major.

        Raises:
            ModelError: shapes or dtypes do not fit, or the forward pass wrote into a buffer, which
                then holds something of the examples that no noise protects.
        """
        task = Task(self._model, self._loss, FlatLayout(self._model), self._views)
        task.layout.check(out)
        self._check(inputs, targets)
        versions = {name: (id(b), b._version) for name, b in self._model.named_buffers()}
        self._choose_way(task, inputs, targets)
        try:
            total, seen = self._clip(task, inputs, targets)
        except UncaughtUseError as error:
            self._give_way(str(error))
            self._choose_way(task, inputs, targets)
            total, seen = self._clip(task, inputs, targets)
        for name, buffer in self._model.named_buffers():
            if versions.get(name) != (id(buffer), buffer._version):
                raise ModelError(
                    f"The forward pass writes into the buffer {name}, so that it would keep "
                    "something of the examples that no noise protects; remove this layer's running "
                    "statistics or use GroupNorm."
                )
        out.add_(total)
        return seen

    def _check(self, inputs: Tensor, targets: Tensor) -> None:
        _check_clip_norm(self.clip_norm)
        if len(inputs) != len(targets):
            raise ModelError(f"{len(inputs)} inputs were given with {len(targets)} targets.")
        if self._views > 1 and (inputs.dim() < 2 or inputs.shape[1] != self._views):
            raise ModelError(
                f"With {self._views} views of each example the inputs must have the shape "
                f"(N, {self._views}, ...), got {tuple(inputs.shape)}."
            )

    def _clip(self, task: Task, inputs: Tensor, targets: Tensor) -> tuple[Tensor, ClippedSum]:
        # The sensitivity that is claimed leaves no room for the rounding of thousands of additions.
        total = task.layout.zeros(torch.float64)
        views = task.layout.views(total)
        seen: list[ClippedSum] = []
        for some, theirs in zip(
            inputs.split(self._examples), targets.split(self._examples), strict=True
        ):
            if len(some):  # an empty batch is split into one empty chunk
                seen.append(self._clip_chunk(task, some, theirs, views))
        empty = task.layout.zeros().new_empty(0)
        return total, ClippedSum(
            torch.cat([chunk.norms for chunk in seen] or [empty]),
            torch.cat([chunk.losses for chunk in seen] or [empty]),
            torch.cat([chunk.outputs for chunk in seen] or [empty]),
            sum(chunk.not_finite for chunk in seen),
        )

    def _clip_chunk(
        self, task: Task, inputs: Tensor, targets: Tensor, total: list[Tensor]
    ) -> ClippedSum:
        # A method of its own, so that a chunk's memory is free, and still in the cache, for the next.
        viewed = self._views > 1
        chunk = self._way(task, inputs.flatten(0, 1) if viewed else inputs, targets)
        with full_precision(task.layout.device):
            norms = torch.empty(len(inputs), dtype=task.layout.dtype, device=task.layout.device)
            bad = add_clipped(chunk.parts, self.clip_norm, norms, total)
        losses, outputs = chunk.losses, chunk.outputs
        if viewed:
            shape = (len(inputs), self._views)
            losses, outputs = losses.view(shape).mean(1), outputs.unflatten(0, shape)
        return ClippedSum(norms, losses, outputs, bad)

    def _choose_way(self, task: Task, inputs: Tensor, targets: Tensor) -> None:
        """Try the present way on a few examples, and go over to slower ones until one is right.

        One example alone cannot be given a wrong share, so that the rules need no trial on it.
        """
        while self._way is not by_loop and len(inputs) > (1 if self._way is by_rules else 0):
            key = (self._way, task.model.training, inputs.shape[1:], *task.layout.numbers)
            if key in self._tried:
                return
            few = inputs[:_TRIAL]
            rows = few if self._views == 1 else few.flatten(0, 1)
            judged, reason = _trial(task, self._way, rows, targets[:_TRIAL])
            if reason is None:
                if judged:
                    self._tried.add(key)
                return
            self._give_way(reason)

    def _give_way(self, reason: str) -> None:
        slower, name = (
            (by_vmap, "torch.func") if self._way is by_rules else (by_loop, "one example at a time")
        )
        self._way = slower
        warnings.warn(
            f"Per-example gradients of {type(self._model).__name__} go the slower way ({name}): "
            f"{reason}.",
            stacklevel=4,
        )


def _trial(task: Task, way: Way, rows: Tensor, targets: Tensor) -> tuple[bool, str | None]:
    """Compare ``way`` with plain autograd on each example.

    In evaluation, since dropout would draw differently. The rules take the first dimension of an
    activation for the batch where it has the batch's size. That a network moves the batch elsewhere,
    or mixes its examples, shows here; that it mixes them in training alone, in :func:`_mixes`.

    Returns:
        Whether enough gradients were finite to judge, and what is wrong, None if nothing is.
    """
    mixes = _mixes(task, rows) if way is by_rules else False
    if mixes:
        return True, "an example's output depends on the others of its batch"
    with _in_evaluation(task.model), full_precision(task.layout.device):
        wanted = _matrix(task, by_loop(task, rows, targets), len(targets))
        try:
            got = _matrix(task, way(task, rows, targets), len(targets))
        except UncaughtUseError as error:
            return True, str(error)
        except RuntimeError as error:
            if way is by_rules:
                raise
            return True, str(error).strip().split("\n")[0].rstrip(".")
    finite = wanted.isfinite().all(1)
    off = torch.linalg.vector_norm((got - wanted)[finite], dim=1)
    size = torch.linalg.vector_norm(wanted[finite], dim=1)
    if not bool((off <= _TRIAL_TOLERANCE * size).all()):  # a NaN is not right either
        return True, "an example's gradient in a batch is not what it is alone"
    judged = int(finite.sum()) > 1 and mixes is not None
    return judged or way is not by_rules, None


def _mixes(task: Task, rows: Tensor) -> bool | None:
    """Return whether another example changes the outputs of the others; None where none is another.

    With the network as it is set, in training as a rule; dropout draws the same each time.
    """
    views, device = task.views, task.layout.device
    first, last = rows[:views], rows[-views:]
    if torch.equal(first, last):
        return None

    def outputs(given: Tensor) -> Tensor:
        with local_torch_seed(0, device):
            found: Tensor = task.model(given)
        return found.double()

    def unlike(these: Tensor, those: Tensor) -> bool:
        room = 1e-4 * float(these.abs().nan_to_num().max())
        return not torch.allclose(these, those, rtol=0, atol=room, equal_nan=True)

    with torch.no_grad(), full_precision(device):
        whole = outputs(rows)
        after = outputs(torch.cat([last, rows[views:]]))
        before = outputs(torch.cat([rows[:-views], first]))
    return unlike(whole[views:], after[views:]) or unlike(whole[:-views], before[:-views])


def _matrix(task: Task, chunk: ChunkGradients, examples: int) -> Tensor:
    matrix = task.layout.zeros().repeat(examples, 1)
    for number, part in chunk.parts:
        matrix[:, task.layout.places[number]] = part.gradients().flatten(1)
    return matrix


@contextmanager
def _in_evaluation(model: nn.Module) -> Iterator[None]:
    before = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in before:
            module.training = False
        yield
    finally:
        for module, training in before:
            module.training = training


def _check_clip_norm(clip_norm: float) -> None:
    if not clip_norm > 0:
        raise ModelError(f"The clip norm must be greater than 0, got {clip_norm}.")


def _refuse_batch_statistics(model: nn.Module) -> None:
    for name, module in model.named_modules():
        batch = isinstance(module, nn.modules.batchnorm._BatchNorm)
        running = isinstance(module, nn.modules.instancenorm._InstanceNorm)
        if batch or (running and module.track_running_stats):
            raise ModelError(
                f"The layer {name or 'itself'} ({type(module).__name__}) keeps statistics of the "
                "batch, through which one example changes the others' gradients or stays in the "
                "network; use GroupNorm instead."
            )
