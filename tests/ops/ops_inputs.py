"""Random arguments for `deformable_attention`."""

from typing import NamedTuple

import torch
from torch import Tensor


class Inputs(NamedTuple):
    shapes: tuple[tuple[int, int], ...]
    value: Tensor
    locations: Tensor
    weights: Tensor

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.value, self.locations, self.weights

    def off_grid(self) -> "Inputs":
        """Move samples that are close to a centre of a row or column of cells a fifth of a cell away from it."""
        sizes = torch.tensor(self.shapes, dtype=torch.float64).flip(-1)[:, None]
        cells = self.locations.double() * sizes - 0.5
        close = (cells - cells.round()).abs() < 0.1
        return self._replace(locations=((cells + 0.2 * close + 0.5) / sizes).to(self.locations.dtype))


def make_inputs(
    shapes: tuple[tuple[int, int], ...],
    *,
    batch: int = 2,
    queries: int = 6,
    heads: int = 2,
    points: int = 3,
    head_dim: int = 5,
    spread: float = 1.0,
    on_grid: bool = False,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Inputs:
    """Draw arguments; `spread` is the extent of the locations around the map's middle, in maps.

    With `on_grid` the locations are multiples of half a cell: centres, borders between cells, borders of the map.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    extent = (batch, queries, heads, len(shapes), points, 2)
    locations = 0.5 + spread * (torch.rand(extent, generator=generator, dtype=torch.float64) - 0.5)
    if on_grid:
        halves = 2 * torch.tensor(shapes, dtype=torch.float64).flip(-1)[:, None]
        locations = (locations * halves).round() / halves
    weights = noise(batch, queries, heads, len(shapes) * points).softmax(-1).unflatten(-1, (len(shapes), points))
    value = noise(batch, sum(height * width for height, width in shapes), heads, head_dim)
    return Inputs(shapes, value.to(dtype), locations.to(dtype), weights.to(dtype))
