"""Anchors: the boxes that a region proposal network starts from (Faster R-CNN, arXiv 1506.01497, section 3.1.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from piip.batches import Size
from piip.config import check_fields
from piip.tasks.detection.boxes import numbers


@dataclass(frozen=True, kw_only=True)
class AnchorConfig:
    """The anchors that stand at each cell of each feature map.

    Attributes:
        scales: lengths of a square anchor's side, in strides of its map.
        ratios: height by width.
    """

    scales: tuple[float, ...] = (8.0,)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)

    def __post_init__(self) -> None:
        """Refuse anchors without extent."""
        check_fields(self, "anchors.")
        for name, values in (("scales", self.scales), ("ratios", self.ratios)):
            if not values or min(values) <= 0:
                raise ValueError(f"anchors.{name}: expected positive numbers, got {values}")

    @property
    def per_cell(self) -> int:
        """How many anchors a cell has."""
        return len(self.scales) * len(self.ratios)

    def make(self, shapes: Sequence[Size], strides: Sequence[int], device: torch.device) -> list[Tensor]:
        """The anchors of each map.

        Args:
            shapes: height and width of each map, in cells.
            strides: of each map, in pixels.
            device: where they go.

        Returns:
            For each map (H * W * per_cell, 4), float32, row by row; the anchors of a cell stand together, those of one
            ratio too. They are centred on the top left corner of their cell.
        """
        return [
            _spread(self._of_one_cell(stride, device), shape, stride)
            for shape, stride in zip(shapes, strides, strict=True)
        ]

    def _of_one_cell(self, stride: int, device: torch.device) -> Tensor:
        heights = numbers(self.ratios, device).sqrt()
        sides = numbers(self.scales, device)
        widths = (stride * (1 / heights)[:, None] * sides).flatten()
        heights = (stride * heights[:, None] * sides).flatten()
        return torch.stack((-0.5 * widths, -0.5 * heights, 0.5 * widths, 0.5 * heights), dim=1)


def within(shapes: Sequence[Size], strides: Sequence[int], size: Size, per_cell: int, device: torch.device) -> Tensor:
    """Which anchors stand at a cell that lies, at least in part, in an image of this size: (all anchors,), bool."""
    inside = []
    for (height, width), stride in zip(shapes, strides, strict=True):
        rows, columns = (-(-side // stride) for side in size)
        cells = torch.zeros((height, width, per_cell), dtype=torch.bool, device=device)
        cells[:rows, :columns] = True
        inside.append(cells.flatten())
    return torch.cat(inside)


def _spread(anchors: Tensor, shape: Size, stride: int) -> Tensor:
    y, x = (torch.arange(length, device=anchors.device) * stride for length in shape)
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    corners = torch.stack((grid_x, grid_y, grid_x, grid_y), dim=-1)  # (H, W, 4)
    return (corners[:, :, None] + anchors).view(-1, 4)
