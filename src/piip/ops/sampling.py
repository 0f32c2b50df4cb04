"""Which rows of `value` a sample is interpolated from, and how much each of them counts.

The gather kernel reads `value`, `(batch, cells, heads, head_dim)`, as a table with one row of `head_dim` numbers for
each `(batch, cell, head)`. A cell's right neighbour is `heads` rows further, the cell below it `width * heads`.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_CHUNK = 1 << 17  # samples at a time: few enough for the cache, many enough to occupy several threads


class Axis(NamedTuple):
    """Linear interpolation along one axis between cells `low` and `low + 1`, for any number of samples.

    Attributes:
        low: the lower of the two neighbours, an integer.
        distance: how far, in cells, the sample lies beyond the centre of `low`.
        weight_low: weight of cell `low`.
        weight_high: weight of cell `low + 1`.
    """

    low: Tensor
    distance: Tensor
    weight_low: Tensor
    weight_high: Tensor

    def slopes(self) -> tuple[Tensor, Tensor]:
        """Return the derivatives of `weight_low` and `weight_high` by the position in cells.

        Where a weight has a kink this is the derivative to the right, as in `grid_sample`.
        """
        whole = self.distance.floor()  # -1 before the outermost centres, 1 after them, else 0
        # Comparing into a tensor of numbers is ten times as fast as to booleans that are then converted.
        before, between, after = (torch.eq(whole, side, out=torch.empty_like(whole)) for side in (-1, 0, 1))
        return before.sub_(between), between.sub_(after)


def interpolate(location: Tensor, size: int, index_dtype: torch.dtype) -> Axis:
    """Place `location`, in units of the map, on an axis of `size >= 2` cells.

    Both neighbours are kept inside the map, so that they can be read without a mask. A weight is a tent around the
    centre of its cell, which stays right when `low` was clamped: beyond the outermost centre the cell there fades to
    zero, and its inner neighbour is more than a cell away. A NaN reads some cell of the map, with weight NaN.
    """
    position = location.mul(size).sub_(0.5)  # the whole number i is the centre of cell i
    low = position.to(index_dtype).clamp_(0, size - 2)
    distance = position.sub_(low)
    return Axis(low, distance, _tent(distance), _tent(distance.sub(1)))


def _tent(distance: Tensor) -> Tensor:
    return distance.abs().neg_().add_(1).clamp_(min=0)


class Level(NamedTuple):
    """One map of a pyramid: its size, and the number of cells in the maps before it."""

    start: int
    height: int
    width: int

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """Cells from the top left of four neighbours to: itself, the top right, the bottom left, the bottom right."""
        return 0, 1, self.width, self.width + 1

    def axes(self, locations: Tensor, index_dtype: torch.dtype) -> tuple[Axis, Axis]:
        """Place samples `(..., 2)`, in units of the map, along the width and along the height."""
        x, y = locations.unbind(-1)
        return interpolate(x, self.width, index_dtype), interpolate(y, self.height, index_dtype)

    def top_left_rows(self, x: Axis, y: Axis, first_rows: Tensor) -> Tensor:
        """Return the table's row of the top left neighbour of each sample `(n, heads, points)`.

        Args:
            x: where the samples lie along the width.
            y: where they lie along the height.
            first_rows: the row of the table for cell 0 of the image and the head, `(n, heads)`.
        """
        heads = first_rows.shape[-1]
        first = first_rows.add(self.start * heads).unsqueeze(-1)
        return torch.add(x.low, y.low, alpha=self.width).mul_(heads).add_(first)


def iterate_levels(sizes: Sequence[int]) -> Iterator[Level]:
    """Yield the levels of a pyramid from the flat list `(H_0, W_0, H_1, W_1, ...)`."""
    start = 0
    for height, width in zip(sizes[::2], sizes[1::2], strict=True):
        yield Level(start, height, width)
        start += height * width


def first_rows(value: Tensor, attention_weights: Tensor) -> Tensor:
    """Return the row of the table for cell 0, for each query of each image, and each head: `(B * Q, heads)`.

    The dtype is the smallest that can also count the entries that read the table, four for each sample.
    """
    batch, cells, heads, _ = value.shape
    largest = max(batch * cells * heads, 4 * attention_weights.numel())
    dtype = torch.int32 if largest <= torch.iinfo(torch.int32).max else torch.int64
    image = torch.arange(batch, dtype=dtype, device=value.device).mul_(cells * heads)
    image = image.repeat_interleave(attention_weights.shape[1])
    return image.unsqueeze(-1) + torch.arange(heads, dtype=dtype, device=value.device)


def iterate_chunks(attention_weights: Tensor) -> Iterator[slice]:
    """Cut the `B * Q` queries into pieces small enough for their intermediates to stay in the cache."""
    batch, queries, *samples = attention_weights.shape
    length = max(1, _CHUNK // math.prod(samples))
    for start in range(0, batch * queries, length):
        yield slice(start, start + length)
