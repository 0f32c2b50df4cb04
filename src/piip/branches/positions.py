"""Position embeddings of one grid, for every grid."""

from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def resample_grid(grid: Tensor, height: int, width: int) -> Tensor:
    """Resample a position grid (1, h, w, C) to (1, height, width, C): bicubic, no antialiasing."""
    channels_first = grid.permute(0, 3, 1, 2).to(torch.promote_types(grid.dtype, torch.float32))
    resampled = F.interpolate(channels_first, (height, width), mode="bicubic", align_corners=False)
    return resampled.permute(0, 2, 3, 1).to(grid.dtype)


class PositionGrid(nn.Module):
    """The positions of a grid of patches, from an embedding that is stored for a square one.

    Has no parameters of its own. For inference, the last resampled grid is kept until the embedding changes. A change
    through `.data`, which PyTorch does not count, is seen after the next `train()`, `eval()` or `to()` of the model.

    Args:
        side: side of the square grid.
        prefix: rows of the embedding before those of the grid.
    """

    def __init__(self, side: int, prefix: int = 0) -> None:
        super().__init__()
        self.side = side
        self.prefix = prefix
        self._cache = _GridCache()

    def forward(self, embedding: Tensor, height: int, width: int) -> Tensor:
        """Resample an embedding (..., prefix + side * side, C) to (1, height, width, C)."""
        grid = embedding.flatten(0, -2)[self.prefix :].view(1, self.side, self.side, -1)
        if (height, width) == (self.side, self.side):
            return grid
        if torch.compiler.is_compiling():
            return resample_grid(grid, height, width)
        if torch.is_grad_enabled():
            self._cache.close()
            return resample_grid(grid, height, width)
        return self._cache.get(embedding, (height, width), lambda: resample_grid(grid, height, width))

    def forget(self) -> None:
        """Compute the positions anew the next time."""
        self._cache.open()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._cache.open()  # empty, as `fn` moves or casts the embedding in place
        return nn.Module._apply(self, fn, recurse)

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode."""
        self._cache.open()
        return super().train(mode)


class _GridCache:
    """The last resampled position grid, for inference: kept until the parameter it was made of changes.

    A forward pass with gradients closes it until the training mode is set the next time: a step of an optimizer may
    follow at any time, and the fused ones do not count as a change of the parameter.
    """

    def __init__(self) -> None:
        self.open()

    def open(self) -> None:
        self._entry: tuple[Tensor, tuple[int, ...], Tensor] | None = None  # one object, as threads may share a model
        self._closed = False

    def close(self) -> None:
        self._entry = None
        self._closed = True

    def get(self, source: Tensor, size: tuple[int, int], make: Callable[[], Tensor]) -> Tensor:
        # Tensors made in inference mode do not count their changes; those that a transform or a functional call put
        # in the parameter's place are gone after it; and gradients are there to be stepped along.
        if self._closed or type(source) is not nn.Parameter or source.is_inference() or source.grad is not None:
            return make()
        key = (source.data_ptr(), source._version, *size)
        entry = self._entry
        if entry is not None and entry[0] is source and entry[1] == key:
            return entry[2]
        grid = make()
        if type(grid) is Tensor:  # not a fake one, that a tracer makes of the real parameter
            self._entry = (source, key, grid)
        return grid
