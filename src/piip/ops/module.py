"""The deformable attention layer, with the parameters of Deformable DETR and PIIP."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from piip.ops.functional import Kernel, deformable_attention


class DeformableAttention(nn.Module):
    """Attention in which each query looks at a few learned points of each level of a pyramid of maps.

    Deformable DETR (arXiv 2010.04159, section 4.1), with the two freedoms that PIIP (arXiv 2406.04330) takes: what is
    looked at may have another width than the queries, and the values may be narrower than them.

    Args:
        embed_dim: width of the queries and of the output.
        num_heads: attention heads.
        num_points: points a head looks at in each level.
        source_dim: width of what is looked at; `embed_dim` if None.
        num_levels: maps in the pyramid.
        value_ratio: width of the values, as a fraction of `embed_dim`.
        kernel: kernel of `deformable_attention`. A plain attribute, which may be set before an export.

    Raises:
        ValueError: the heads do not divide the width of the values, or a number is not positive.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_points: int,
        *,
        source_dim: int | None = None,
        num_levels: int = 1,
        value_ratio: float = 1.0,
        kernel: Kernel = "auto",
    ) -> None:
        super().__init__()
        for name, number in (("embed_dim", embed_dim), ("num_heads", num_heads), ("num_points", num_points)):
            if number < 1:
                raise ValueError(f"{name} must be positive, got {number}")
        if num_levels < 1:
            raise ValueError(f"num_levels must be positive, got {num_levels}")
        if not 0 < value_ratio < math.inf:
            raise ValueError(f"value_ratio must be a positive number, got {value_ratio}")
        value_dim = int(embed_dim * value_ratio)
        if value_dim < 1 or value_dim % num_heads:
            raise ValueError(
                f"num_heads={num_heads} must divide the width of the values, int(embed_dim * value_ratio) = "
                f"int({embed_dim} * {value_ratio}) = {value_dim}: change num_heads or value_ratio"
            )
        self.num_heads = num_heads
        self.num_points = num_points
        self.num_levels = num_levels
        self.kernel: Kernel = kernel
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dim, samples * 2)
        self.attention_weights = nn.Linear(embed_dim, samples)
        self.value_proj = nn.Linear(embed_dim if source_dim is None else source_dim, value_dim)
        self.output_proj = nn.Linear(value_dim, embed_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as Deformable DETR does: each head looks in its own direction, point `i` at distance `i + 1`."""
        angles = 2 * math.pi / self.num_heads * torch.arange(self.num_heads, dtype=torch.float32)
        directions = torch.stack((angles.cos(), angles.sin()), dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        distances = torch.arange(1, self.num_points + 1, dtype=torch.float32)
        star = directions[:, None, None] * distances[:, None]  # (heads, 1, points, 2)
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(star.expand(-1, self.num_levels, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        source: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
        *,
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Let the queries look at the source.

        Args:
            query: `(B, Q, embed_dim)`.
            reference_points: where each query stands in each level, `(B or 1, Q, levels, 2)` as (x, y) in units of the
                map, from which offsets count in cells; or `(B or 1, Q, levels, 4)`, boxes as (centre x, centre y,
                width, height), where an offset of `num_points` reaches the edge of the box.
            source: `(B, S, source_dim)`, the maps of all levels one after the other.
            spatial_shapes: `(H, W)` of each level, as Python integers.
            padding_mask: `(B, S)`, True where the source is padding, which then counts as zero.

        Returns:
            `(B, Q, embed_dim)`.

        Raises:
            ValueError: shapes do not fit together.
        """
        self._check(query, reference_points, source, spatial_shapes, padding_mask)
        value = self.value_proj(source)
        if padding_mask is not None:
            value = value.masked_fill(padding_mask.unsqueeze(-1), 0)
        value = value.unflatten(-1, (self.num_heads, -1))
        weights = _at_least_float32(self.attention_weights(query))
        weights = weights.unflatten(-1, (self.num_heads, -1)).softmax(dim=-1).to(value.dtype)
        weights = weights.unflatten(-1, (self.num_levels, self.num_points))
        locations = self._sampling_locations(query, reference_points, spatial_shapes)
        output = deformable_attention(value, spatial_shapes, locations, weights, kernel=self.kernel)
        return self.output_proj(output)

    def _sampling_locations(
        self, query: Tensor, reference_points: Tensor, spatial_shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Return `(B, Q, heads, levels, points, 2)`; in float32 at least, as half precision cannot tell cells apart."""
        offsets = _at_least_float32(self.sampling_offsets(query))
        offsets = offsets.view(*query.shape[:2], self.num_heads, self.num_levels, self.num_points, 2)
        reference = reference_points.to(offsets.dtype)[:, :, None, :, None]  # (B or 1, Q, 1, levels, 1, 2 or 4)
        centre, box = reference[..., :2], reference[..., 2:]
        if reference.shape[-1] == 4:
            return centre + offsets * (box * (0.5 / self.num_points))
        # Filled on the device: a tensor made from the Python numbers would have to be copied there, and waited for.
        sizes = [offsets.new_full((), size) for height, width in spatial_shapes for size in (width, height)]
        return centre + offsets / torch.stack(sizes).view(self.num_levels, 1, 2)

    def _check(
        self,
        query: Tensor,
        reference_points: Tensor,
        source: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
        padding_mask: Tensor | None,
    ) -> None:
        batch, queries, _ = query.shape
        if len(spatial_shapes) != self.num_levels:
            raise ValueError(f"spatial_shapes must have num_levels={self.num_levels} entries, got {spatial_shapes}")
        shape = tuple(reference_points.shape)
        if shape[1:3] != (queries, self.num_levels) or shape[0] not in (1, batch) or shape[3:] not in ((2,), (4,)):
            raise ValueError(
                f"reference_points must be ({batch} or 1, {queries}, {self.num_levels}, 2 or 4) for query of shape "
                f"{tuple(query.shape)} and num_levels={self.num_levels}, got {shape}"
            )
        if source.ndim != 3 or source.shape[0] != batch:
            raise ValueError(f"source must be ({batch}, cells, source_dim), got {tuple(source.shape)}")
        if padding_mask is not None and padding_mask.shape != source.shape[:2]:
            raise ValueError(
                f"padding_mask must be {tuple(source.shape[:2])} for source of shape {tuple(source.shape)}, "
                f"got {tuple(padding_mask.shape)}"
            )

    def extra_repr(self) -> str:
        """Show what the parameters do not."""
        return f"num_heads={self.num_heads}, num_levels={self.num_levels}, num_points={self.num_points}"


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
