"""The local optimisers, acting on the whole parameter vector as one tensor.

They call the fused kernels that ``torch.optim`` calls. Its classes are not used: the first of them
that a process makes imports PyTorch's compiler, which takes a second of every run and every worker.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedlens.training.local import LocalTraining

# The value that the study's Keras has. Keras adds it before the bias correction of v, PyTorch after:
# the two differ only where a gradient is below some 1e-6.
KERAS_EPSILON = 1e-7
BETAS = (0.9, 0.999)


class FlatOptimizer:
    """SGD, Adam or AdamW of one parameter vector, with the bits of ``torch.optim``'s fused ones.

    Attributes:
        lr: learning rate of the next step.
    """

    def __init__(self, vector: Tensor, gradient: Tensor, settings: LocalTraining) -> None:
        """Prepare to change ``vector`` (P,) in place by ``gradient`` (P,), of the same dtype.

        Args:
            vector: the weights.
            gradient: read anew in each step.
            settings: which optimiser, its rate, momentum and weight decay.
        """
        self.lr = settings.lr
        self._vector = vector
        self._gradient = gradient
        self._settings = settings
        self._state: dict[str, Tensor] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Change the weights by the gradient as it is now."""
        if self._settings.optimizer == "sgd":
            self._sgd()
        else:
            self._adam()

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the memory: moments, step count; nothing before the first step."""
        return {name: value.clone() for name, value in self._state.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state` returned."""
        self._state = {name: value.clone() for name, value in state.items()}

    def _sgd(self) -> None:
        settings, state = self._settings, self._state
        first = bool(settings.momentum) and not state
        if first:
            state["momentum_buffer"] = torch.empty_like(self._gradient)
        torch._fused_sgd_(
            [self._vector],
            [self._gradient],
            list(state.values()),
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            lr=self.lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=first,
        )

    def _adam(self) -> None:
        state = self._state
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=self._vector.device)
            state["exp_avg"] = torch.zeros_like(self._vector)
            state["exp_avg_sq"] = torch.zeros_like(self._vector)
        state["step"] += 1
        kernel = torch._fused_adam_ if self._settings.optimizer == "adam" else torch._fused_adamw_
        kernel(
            [self._vector],
            [self._gradient],
            [state["exp_avg"]],
            [state["exp_avg_sq"]],
            [],
            [state["step"]],
            lr=self.lr,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=self._settings.weight_decay,
            eps=KERAS_EPSILON,
            amsgrad=False,
            maximize=False,
        )
