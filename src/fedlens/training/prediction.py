"""Running a network over many examples in fixed pieces, so that the bits never depend on how."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fedlens.training.loop import as_inputs, threads

CHUNK = 250  # examples a forward pass: the first feature maps of paper-cnn then stay in cache


def chunks(count: int) -> Iterator[slice]:
    """Yield the consecutive slices of at most ``CHUNK`` examples that cover ``count``."""
    for start in range(0, count, CHUNK):
        yield slice(start, min(start + CHUNK, count))


def predict_chunk(model: nn.Module, inputs: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the outputs of one chunk, in evaluation mode and without a gradient."""
    model.eval()
    with torch.inference_mode():
        outputs: Tensor = model(as_inputs(inputs, dtype))
    return outputs


def predict(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the outputs (N, ...) of ``model`` on ``inputs`` (N, ...), on one thread.

    Args:
        model: any network; its training flags are put back afterwards.
        inputs: uint8 images, scaled to [0, 1] chunk by chunk, or any tensor the network takes.
    """
    dtype = next(model.parameters()).dtype
    flags = {module: module.training for module in model.modules()}
    try:
        with threads(1):
            outputs = torch.cat(
                [predict_chunk(model, inputs[part], dtype) for part in chunks(len(inputs))]
            )
    finally:
        for module, flag in flags.items():
            module.training = flag
    return outputs.clone()  # an ordinary tensor: inference tensors cannot be differentiated later
