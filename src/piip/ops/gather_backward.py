"""The gradients of the gather kernel.

Seen as a matrix product, `output = A @ table` with a sparse `A` that has four entries in a row for each sample. The
gradient of `A` is needed only where it has entries, which makes it a sampled dense-dense product. The gradient of
`table` is `A.T @ grad`: an embedding bag once more, over the samples sorted by the rows that they read. The four
neighbours of a sample lie at fixed distances, so sorting by the first serves all four.

`A` is cheap to make, so it is made again here rather than kept from the forward pass.
"""

import itertools
import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from piip.ops.sampling import Axis, Level, first_rows, iterate_chunks, iterate_levels


def gather_gradients(
    grad: Tensor, value: Tensor, sizes: Sequence[int], sampling_locations: Tensor, attention_weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of value, sampling locations and attention weights.

    Args:
        grad: gradient of the output, `(B, Q, heads * head_dim)`.
        value: as in `piip.ops.deformable_attention`.
        sizes: `(H_0, W_0, H_1, W_1, ...)`, each at least 2.
        sampling_locations: as in `piip.ops.deformable_attention`.
        attention_weights: likewise.
    """
    grad_locations = sampling_locations.new_zeros(sampling_locations.shape)
    grad_weights = attention_weights.new_zeros(attention_weights.shape)
    if value.numel() == 0 or attention_weights.numel() == 0:
        return value.new_zeros(value.shape), grad_locations, grad_weights
    dtype = torch.promote_types(value.dtype, torch.float32)
    _, _, heads, levels, points = attention_weights.shape
    grad, table = (tensor.to(dtype).reshape(-1, value.shape[-1]) for tensor in (grad, value))
    # `sampled_addmm` is several times slower on rows of fewer than eight numbers.
    padding = (0, max(0, 8 - value.shape[-1]))
    wide_grad, wide_table = F.pad(grad, padding).unflatten(0, (-1, heads)), F.pad(table, padding)

    locations, attention, to_locations, to_weights = (
        tensor.flatten(0, 1) for tensor in (sampling_locations, attention_weights, grad_locations, grad_weights)
    )
    first = first_rows(value, attention_weights)
    rows = first.new_empty(levels, *first.shape, points)  # level by level, so that what is read together is contiguous
    entries = table.new_empty(4, *rows.shape)
    for (index, level), part in itertools.product(enumerate(iterate_levels(sizes)), iterate_chunks(attention_weights)):
        x, y = level.axes(locations[part, :, index].to(dtype), rows.dtype)
        rows[index, part] = level.top_left_rows(x, y, first[part])
        dots = _corner_dots(wide_grad[part], wide_table, rows[index, part], level)
        grads = _sample_gradients(x, y, level, attention[part, :, index].to(dtype), dots, entries[:, index, part])
        to_locations[part, :, index, :, 0], to_locations[part, :, index, :, 1], to_weights[part, :, index] = grads
    return _scatter(grad, rows, entries, value, sizes), grad_locations, grad_weights


def _corner_dots(grad: Tensor, table: Tensor, rows: Tensor, level: Level) -> list[Tensor]:
    """Multiply the gradient at each sample with each of the four rows that the sample reads.

    Args:
        grad: `(n, heads, d)`.
        table: `(rows, d)`.
        rows: the first row that each sample reads, `(n, heads, points)`.
        level: the map that the samples lie in.
    """
    _, heads, points = rows.shape
    starts = torch.arange(0, rows.numel() + 1, points, dtype=rows.dtype, device=rows.device)
    dots = []
    for distance in level.corners:
        neighbours = table[distance * heads :]
        # PyTorch takes a sparse matrix to have no more entries than places, which repeated entries of a tiny map break.
        if neighbours.shape[0] < points:
            neighbours = F.pad(neighbours, (0, 0, 0, points - neighbours.shape[0]))
        pattern = _sparse_zeros(starts, rows.view(-1), (starts.numel() - 1, neighbours.shape[0]), grad.dtype)
        torch.sparse.sampled_addmm(pattern, grad.flatten(0, 1), neighbours.t(), beta=0.0, out=pattern)
        dots.append(pattern.values().view(rows.shape))
    return dots


def _sparse_zeros(starts: Tensor, columns: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        values = torch.zeros(columns.shape, dtype=dtype, device=columns.device)
        return torch.sparse_csr_tensor(starts, columns, values, shape, device=columns.device, check_invariants=False)


def _sample_gradients(
    x: Axis, y: Axis, level: Level, attention: Tensor, dots: Sequence[Tensor], entries: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate `attention * sum over corners of y weight * x weight * dot`, for samples `(n, heads, points)`.

    Args:
        x: where the samples lie along the width.
        y: where they lie along the height.
        level: the map that they lie in.
        attention: their weights.
        dots: what `_corner_dots` gives.
        entries: `(4, n, heads, points)`, overwritten with the factors of the dots, which are the entries of `A`.

    Returns:
        The gradients of x and y in units of the map, and of the attention.
    """
    top_left, top_right, bottom_left, bottom_right = dots
    x_weights = x.weight_low, x.weight_high
    top, bottom = _blend(x_weights, (top_left, top_right)), _blend(x_weights, (bottom_left, bottom_right))
    grad_attention = _blend((y.weight_low, y.weight_high), (top, bottom))
    grad_y = _blend(y.slopes(), (top, bottom)).mul_(attention).mul_(level.height)

    y_weights = y.weight_low.mul_(attention), y.weight_high.mul_(attention)
    left, right = _blend(y_weights, (top_left, bottom_left)), _blend(y_weights, (top_right, bottom_right))
    grad_x = _blend(x.slopes(), (left, right)).mul_(level.width)
    for entry, (row, column) in zip(entries, itertools.product(y_weights, x_weights), strict=True):
        torch.mul(row, column, out=entry)
    return grad_x, grad_y, grad_attention


def _blend(weights: tuple[Tensor, Tensor], tensors: tuple[Tensor, Tensor]) -> Tensor:
    return torch.mul(weights[0], tensors[0]).addcmul_(weights[1], tensors[1])


def _scatter(grad: Tensor, rows: Tensor, entries: Tensor, value: Tensor, sizes: Sequence[int]) -> Tensor:
    """Add to each cell of `value` what the samples that read it pass back.

    Args:
        grad: `(B * Q * heads, head_dim)`.
        rows: the first row that each sample reads, `(levels, B * Q, heads, points)`.
        entries: how much each of its four rows counts, `(4, *rows.shape)`.
        value: for its shape and dtype.
        sizes: `(H_0, W_0, H_1, W_1, ...)`.
    """
    batch, cells, heads, head_dim = value.shape
    levels, *_, points = rows.shape
    order = rows.view(-1).sort(stable=True).indices
    bags = torch.arange(grad.shape[0], dtype=rows.dtype, device=rows.device)
    bags = bags.repeat_interleave(points).repeat(levels).index_select(0, order)
    counts = torch.bincount(rows.view(-1), minlength=batch * cells * heads)
    starts = F.pad(counts.cumsum(0, dtype=rows.dtype), (1, 0))

    corner_sums = (
        F.embedding_bag(
            bags, grad, starts, mode="sum", per_sample_weights=weights.index_select(0, order), include_last_offset=True
        ).view(batch, cells, heads * head_dim)
        for weights in entries.flatten(1)
    )
    result = next(corner_sums)
    for corner, sums in enumerate(corner_sums, start=1):
        for level in iterate_levels(sizes):
            first, last, distance = level.start, level.start + level.height * level.width, level.corners[corner]
            result[:, first + distance : last] += sums[:, first : last - distance]
    return result.view(value.shape).to(value.dtype)
