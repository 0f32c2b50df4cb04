"""Deformable attention as a weighted gather: the kernel for CPUs.

A bilinear sample is a weighted sum of four cells, so the whole attention is one weighted sum of `4 * levels * points`
rows of `value` for each query and head: an embedding bag with weights, for which PyTorch has a vectorised kernel. The
backward of that bag is slow, so `gather_backward` replaces it.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from piip.ops.gather_backward import gather_gradients
from piip.ops.sampling import first_rows, iterate_chunks, iterate_levels


def gather_kernel(
    value: Tensor, spatial_shapes: Sequence[tuple[int, int]], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Deformable attention as a custom operator; see `piip.ops.deformable_attention` for the arguments."""
    if any(1 in shape for shape in spatial_shapes):
        value, spatial_shapes, sampling_locations = _widen(value, spatial_shapes, sampling_locations)
    sizes = list(itertools.chain.from_iterable(spatial_shapes))
    return _gather(value, sizes, sampling_locations, attention_weights)


def _widen(
    value: Tensor, spatial_shapes: Sequence[tuple[int, int]], sampling_locations: Tensor
) -> tuple[Tensor, list[tuple[int, int]], Tensor]:
    """Append a row or column of zeros to levels one cell high or wide, where a sample lacks two neighbours to read."""
    values, shapes, locations = [], [], []
    levels = value.split([height * width for height, width in spatial_shapes], dim=1)
    for (height, width), level, location in zip(spatial_shapes, levels, sampling_locations.unbind(dim=3), strict=True):
        new_height, new_width = max(height, 2), max(width, 2)
        padding = (0, 0, 0, 0, 0, new_width - width, 0, new_height - height)
        values.append(F.pad(level.unflatten(1, (height, width)), padding).flatten(1, 2))
        shapes.append((new_height, new_width))
        x, y = location.unbind(dim=-1)
        locations.append(torch.stack((x * (width / new_width), y * (height / new_height)), dim=-1))
    return torch.cat(values, dim=1), shapes, torch.stack(locations, dim=3)


@torch.library.custom_op("piip::deformable_gather", mutates_args=())
def _gather(value: Tensor, sizes: Sequence[int], sampling_locations: Tensor, attention_weights: Tensor) -> Tensor:
    batch, _, heads, head_dim = value.shape
    queries = sampling_locations.shape[1]
    if value.numel() == 0 or attention_weights.numel() == 0:
        return value.new_zeros(batch, queries, heads * head_dim)
    table = value.detach().to(torch.promote_types(value.dtype, torch.float32)).reshape(-1, head_dim)
    locations, attention = sampling_locations.detach().flatten(0, 1), attention_weights.detach().flatten(0, 1)
    first = first_rows(value, attention_weights)
    outputs = [
        _gather_chunk(table, sizes, locations[part].to(table.dtype), attention[part].to(table.dtype), first[part])
        for part in iterate_chunks(attention_weights)
    ]
    return torch.cat(outputs).view(batch, queries, heads * head_dim).to(value.dtype)


def _gather_chunk(table: Tensor, sizes: Sequence[int], locations: Tensor, attention: Tensor, first: Tensor) -> Tensor:
    """Attend for `n` queries.

    Args:
        table: `(rows, head_dim)`.
        sizes: `(H_0, W_0, H_1, W_1, ...)`.
        locations: `(n, heads, levels, points, 2)`.
        attention: `(n, heads, levels, points)`.
        first: the row of cell 0, `(n, heads)`.

    Returns:
        `(n * heads, head_dim)`.
    """
    rows = first.new_empty(*attention.shape, 4)
    weights = table.new_empty(*attention.shape, 4)
    for index, level in enumerate(iterate_levels(sizes)):
        x, y = level.axes(locations[:, :, index], rows.dtype)
        top_left = level.top_left_rows(x, y, first)
        vertical = [weight.mul_(attention[:, :, index]) for weight in (y.weight_low, y.weight_high)]
        pairs = itertools.product(vertical, (x.weight_low, x.weight_high))
        for distance, row, pair, weight in zip(
            level.corners, rows[:, :, index].unbind(-1), pairs, weights[:, :, index].unbind(-1), strict=True
        ):
            torch.add(top_left, distance * first.shape[-1], out=row)
            torch.mul(*pair, out=weight)
    bags = first.numel()
    return F.embedding_bag(rows.view(bags, -1), table, per_sample_weights=weights.view(bags, -1), mode="sum")


@torch.library.custom_op("piip::deformable_gather_backward", mutates_args=())
def _gather_backward(
    grad: Tensor, value: Tensor, sizes: Sequence[int], sampling_locations: Tensor, attention_weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return gather_gradients(
        grad.detach(), value.detach(), sizes, sampling_locations.detach(), attention_weights.detach()
    )


@_gather.register_fake
def _(value: Tensor, _sizes: Sequence[int], sampling_locations: Tensor, _attention_weights: Tensor) -> Tensor:
    batch, _, heads, head_dim = value.shape
    return value.new_empty(batch, sampling_locations.shape[1], heads * head_dim)


@_gather_backward.register_fake
def _(
    _grad: Tensor, value: Tensor, _sizes: Sequence[int], sampling_locations: Tensor, attention_weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    value_like, locations_like, weights_like = (
        tensor.new_empty(tensor.shape) for tensor in (value, sampling_locations, attention_weights)
    )
    return value_like, locations_like, weights_like


def _setup_context(ctx: Any, inputs: tuple[Tensor, list[int], Tensor, Tensor], output: Tensor) -> None:
    del output  # the signature that `register_autograd` asks for
    value, ctx.sizes, sampling_locations, attention_weights = inputs
    ctx.save_for_backward(value, sampling_locations, attention_weights)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
    value, sampling_locations, attention_weights = ctx.saved_tensors
    grad_value, grad_locations, grad_weights = _gather_backward(
        grad, value, ctx.sizes, sampling_locations, attention_weights
    )
    return grad_value, None, grad_locations, grad_weights


_gather.register_autograd(_backward, setup_context=_setup_context)
