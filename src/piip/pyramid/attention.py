"""Cross-attention from the tokens of one branch to those of another, on maps."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piip.branches.layers import Linear
from piip.ops import DeformableAttention


class CellCentres:
    """Centres of the cells of token maps, in [0, 1] and x first: made once for each grid of a forward pass."""

    def __init__(self) -> None:
        self._centres: dict[tuple[int, int], Tensor] = {}

    def of(self, tokens: Tensor) -> Tensor:
        """The centres (1, H * W, 1, 2), row by row, of the grid of `tokens` (B, H, W, C), in float32."""
        height, width = tokens.shape[1:3]
        if torch.compiler.is_compiling():  # sizes may be symbols, which are no keys; a compiler shares what is equal
            return _cell_centres(height, width, tokens.device)
        if (height, width) not in self._centres:
            self._centres[height, width] = _cell_centres(height, width, tokens.device)
        return self._centres[height, width]


def _cell_centres(height: int, width: int, device: torch.device) -> Tensor:
    y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
    x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
    grid = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)
    return grid.view(1, height * width, 1, 2)


class DeformableCrossAttention(nn.Module):
    """Each query cell samples a few points of the source map, around its own place in the image.

    Args:
        dim: width of the queries and of the result.
        source_dim: width of the source.
        num_heads: heads; divides the width of the values.
        num_points: points that each head samples.
        value_ratio: width of the values over `dim`.
    """

    def __init__(self, dim: int, source_dim: int, *, num_heads: int, num_points: int, value_ratio: float) -> None:
        super().__init__()
        self.deformable = DeformableAttention(
            dim, num_heads, num_points, source_dim=source_dim, value_ratio=value_ratio
        )

    def forward(self, query: Tensor, source: Tensor, centres: CellCentres) -> Tensor:
        """Map (B, H, W, dim) queries to maps of the same shape, reading a source map (B, h, w, source_dim)."""
        height, width = source.shape[1:3]
        attended = self.deformable(query.flatten(1, 2), centres.of(query), source.flatten(1, 2), ((height, width),))
        return attended.view(query.shape)


class RegularCrossAttention(nn.Module):
    """Each query cell attends to every cell of the source map.

    Args:
        dim: width of the queries and of the result.
        source_dim: width of the source.
        num_heads: heads; divides `dim`.
    """

    def __init__(self, dim: int, source_dim: int, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = Linear(dim, dim, bias=False)
        self.k_proj = Linear(source_dim, dim, bias=False)
        self.v_proj = Linear(source_dim, dim, bias=False)
        self.proj = Linear(dim, dim)

    def forward(self, query: Tensor, source: Tensor, _centres: CellCentres) -> Tensor:
        """Map (B, H, W, dim) queries to maps of the same shape, reading a source map (B, h, w, source_dim)."""
        source = source.flatten(1, 2)
        q, k, v = (
            tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for tokens in (self.q_proj(query.flatten(1, 2)), self.k_proj(source), self.v_proj(source))
        )  # (B, heads, N, dim / heads)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.proj(attended).view(query.shape)
