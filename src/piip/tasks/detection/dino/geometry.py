"""Where the cells of a pyramid of maps are, in images that fill only a part of their batch."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from piip.batches import Size
from piip.tasks.detection.boxes import numbers


class Geometry(NamedTuple):
    """The cells of all maps, one map after the other, row by row.

    Attributes:
        shapes: height and width of each map, in cells.
        extents: (B, levels, 2), how many cells of each map the image fills along x and y.
        valid_ratios: (B, levels, 2), the same in parts of the map.
        centres: (B, cells, 2), the x and y of each cell's centre, in units of the image: beyond 1 there is padding.
        padding_mask: (B, cells), which cells are padding.
    """

    shapes: tuple[Size, ...]
    extents: Tensor
    valid_ratios: Tensor
    centres: Tensor
    padding_mask: Tensor

    @property
    def reference_points(self) -> Tensor:
        """Where each cell is in each map, in units of the maps: (B, cells, levels, 2)."""
        return self.centres[:, :, None] * self.valid_ratios[:, None]


def locate(shapes: Sequence[Size], image_sizes: Tensor, padded: Size) -> Geometry:
    """Place the cells of maps in their images.

    Args:
        shapes: height and width of each map.
        image_sizes: (B, 2), widths and heights in pixels, without padding.
        padded: height and width that the maps are of, in pixels.
    """
    height, width = padded
    extents, full, centres = [], [], []
    for rows, columns in shapes:
        cells, pixels = (numbers(pair, image_sizes.device) for pair in ((columns, rows), (width, height)))
        extent = (image_sizes * cells / pixels).ceil()  # whose top left pixels are within the image
        x, y = (torch.arange(length, dtype=torch.float32, device=extent.device) for length in (columns, rows))
        grid_y, grid_x = torch.meshgrid(y + 0.5, x + 0.5, indexing="ij")
        centres.append(torch.stack((grid_x, grid_y), dim=-1).view(1, -1, 2) / extent[:, None])
        extents.append(extent)
        full.append(cells)
    counts, centre = torch.stack(extents, dim=1), torch.cat(centres, dim=1)
    return Geometry(tuple(shapes), counts, counts / torch.stack(full), centre, (centre >= 1).any(-1))
