"""The reference kernel: `grid_sample`, level by level. The oracle of the other kernels, and the form that exports."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def reference_kernel(
    value: Tensor, spatial_shapes: Sequence[tuple[int, int]], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Deformable attention out of core operators; see `piip.ops.deformable_attention` for the arguments."""
    batch, cells, heads, head_dim = value.shape
    queries, levels, points = sampling_locations.shape[1], *sampling_locations.shape[3:5]
    dtype = torch.promote_types(value.dtype, torch.float32)

    # Contiguous also for one image, where a view would do: `grid_sample` reads it faster.
    maps = value.to(dtype).permute(0, 2, 3, 1).contiguous().view(batch * heads, head_dim, cells)
    grids = (2 * sampling_locations.to(dtype) - 1).transpose(1, 2).reshape(batch * heads, queries, levels, points, 2)
    samples = [
        F.grid_sample(level.unflatten(-1, (height, width)), grids[:, :, index], align_corners=False)
        for index, ((height, width), level) in enumerate(
            zip(spatial_shapes, maps.split([height * width for height, width in spatial_shapes], dim=-1), strict=True)
        )
    ]  # each (batch * heads, head_dim, queries, points)
    weights = attention_weights.to(dtype).transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    output = (torch.cat(samples, dim=-1) * weights).sum(dim=-1)
    return output.view(batch, heads * head_dim, queries).transpose(1, 2).to(value.dtype)
