"""Position embeddings of one grid, for every grid."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piip.branches.base import same_grid


def resample_grid(grid: Tensor, height: int, width: int) -> Tensor:
    """Resample a position grid (1, h, w, C) to (1, height, width, C): bicubic, no antialiasing."""
    channels_first = grid.permute(0, 3, 1, 2).to(torch.promote_types(grid.dtype, torch.float32))
    resampled = F.interpolate(channels_first, (height, width), mode="bicubic", align_corners=False)
    return resampled.permute(0, 2, 3, 1).to(grid.dtype)


class PositionGrid(nn.Module):
    """The positions of a grid of patches, from an embedding that is stored for a square one.

    Has no parameters of its own. For inference on the CPU the last resampled grid is kept, beside the numbers that it
    was made of: as long as the embedding has the same ones it is right, however the embedding was changed meanwhile.
    On other devices the host would have to wait for such a comparison, and resampling takes next to nothing.

    Args:
        side: side of the square grid.
        prefix: rows of the embedding before those of the grid.
    """

    def __init__(self, side: int, prefix: int = 0) -> None:
        super().__init__()
        self.side = side
        self.prefix = prefix
        self._kept: tuple[Tensor, Tensor] | None = None  # one object, as threads may share a model

    def forward(self, embedding: Tensor, height: int, width: int) -> Tensor:
        """Resample an embedding (..., prefix + side * side, C) to (1, height, width, C)."""
        grid = embedding.flatten(0, -2)[self.prefix :].view(1, self.side, self.side, -1)
        if same_grid((height, width), (self.side, self.side)):
            return grid
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or not _can_be_compared(embedding, grid):
            return resample_grid(grid, height, width)
        kept = self._kept
        if kept is None or kept[1].shape[1:3] != (height, width) or not _equal(kept[0], grid):
            kept = self._kept = (grid.clone(), resample_grid(grid, height, width))
        return kept[1]


def _can_be_compared(embedding: Tensor, grid: Tensor) -> bool:
    # Transforms put tensors of their own in the place of parameters, and tracers make tensors without numbers of them.
    return type(embedding) is nn.Parameter and type(grid) is Tensor and grid.device.type == "cpu"


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(first, second)
