"""The one entrance to multi-scale deformable attention, and the one place where a kernel is chosen."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from piip.ops.gather import gather_kernel
from piip.ops.reference import reference_kernel

Kernel = Literal["auto", "reference", "gather"]
KernelFunction = Callable[[Tensor, Sequence[tuple[int, int]], Tensor, Tensor], Tensor]

_KERNELS: dict[str, KernelFunction] = {"reference": reference_kernel, "gather": gather_kernel}

# A GPU kernel belongs in `_KERNELS`, and its name here beside "cuda". Until then CUDA, like every device that is not
# listed, gets the reference: there `grid_sample` is one native kernel in each direction and never waits for the host,
# whereas the backward of "gather" sorts, and counts with `bincount`, which does wait.
_KERNEL_OF_DEVICE: dict[str, Kernel] = {"cpu": "gather"}


def kernel_of(device_type: str) -> Kernel:
    """The kernel that `"auto"` picks for this kind of device: `"cpu"`, `"cuda"`, ..."""
    return _KERNEL_OF_DEVICE.get(device_type, "reference")


def deformable_attention(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
    *,
    kernel: Kernel = "auto",
) -> Tensor:
    """Sample the maps in `value` bilinearly where each query looks, and sum the samples with the query's weights.

    The core of multi-scale deformable attention (Deformable DETR, arXiv 2010.04159, section 4.1). Cell `(i, j)` of an
    `(H, W)` map has its centre at `((j + 0.5) / W, (i + 0.5) / H)`; outside the map everything is zero. Half precision
    values are interpolated and summed in float32. Differentiable once in all three tensors.

    Args:
        value: `(B, sum(H_l * W_l), heads, head_dim)`, the maps of all levels, each in row-major order.
        spatial_shapes: `(H, W)` of each level, as Python integers.
        sampling_locations: `(B, Q, heads, levels, points, 2)`, x before y, in units of the map: `[0, 1]` is inside.
            Has the dtype of `value`, or float32 beside half precision values.
        attention_weights: `(B, Q, heads, levels, points)`, in the dtype of `value`; usually they sum to one.
        kernel: `"auto"` picks the fastest for the device. `"gather"` is the CPU kernel, a custom operator that stays
            one node in a graph made by `torch.compile` or `torch.export`. `"reference"` consists of core operators
            only: choose it to export to something that does not have `piip` at hand.

    Returns:
        `(B, Q, heads * head_dim)`, in the dtype of `value`.

    Raises:
        ValueError: shapes, dtypes or devices do not fit together, or there is no such kernel.
    """
    _check(value, spatial_shapes, sampling_locations, attention_weights)
    name = kernel_of(value.device.type) if kernel == "auto" else kernel
    if name not in _KERNELS:
        raise ValueError(f"kernel={kernel!r} is unknown: choose 'auto' or one of {sorted(_KERNELS)}")
    return _KERNELS[name](value, spatial_shapes, sampling_locations, attention_weights)


def _check(
    value: Tensor, spatial_shapes: Sequence[tuple[int, int]], sampling_locations: Tensor, attention_weights: Tensor
) -> None:
    _check_value(value, spatial_shapes)
    batch, _, heads, _ = value.shape
    levels = len(spatial_shapes)
    if sampling_locations.ndim != 6:
        raise ValueError(
            "sampling_locations must be (batch, queries, heads, levels, points, 2), "
            f"got shape {tuple(sampling_locations.shape)}"
        )
    _, queries, _, _, points, _ = sampling_locations.shape
    expected = (batch, queries, heads, levels, points, 2)
    if tuple(sampling_locations.shape) != expected:
        raise ValueError(
            f"sampling_locations must be {expected} = (batch, queries, heads, levels, points, 2) for value of shape "
            f"{tuple(value.shape)} and {levels} spatial_shapes, got {tuple(sampling_locations.shape)}"
        )
    if tuple(attention_weights.shape) != expected[:-1]:
        raise ValueError(
            f"attention_weights must be {expected[:-1]} = (batch, queries, heads, levels, points) for "
            f"sampling_locations of shape {expected}, got {tuple(attention_weights.shape)}"
        )
    if not value.device == sampling_locations.device == attention_weights.device:
        raise ValueError(
            f"value is on {value.device}, sampling_locations on {sampling_locations.device} and attention_weights on "
            f"{attention_weights.device}: move them to one device"
        )
    if attention_weights.dtype != value.dtype:
        raise ValueError(
            f"attention_weights are {attention_weights.dtype} but value is {value.dtype}: cast one of them"
        )
    if sampling_locations.dtype not in (value.dtype, torch.float32):
        raise ValueError(
            f"sampling_locations are {sampling_locations.dtype}: they must be float32 or have value's {value.dtype}"
        )


def _check_value(value: Tensor, spatial_shapes: Sequence[tuple[int, int]]) -> None:
    if value.ndim != 4:
        raise ValueError(f"value must be (batch, cells, heads, head_dim), got shape {tuple(value.shape)}")
    if not value.dtype.is_floating_point:
        raise ValueError(f"value must be floating point, got {value.dtype}")
    shapes = tuple(tuple(shape) for shape in spatial_shapes)
    if not shapes or any(len(shape) != 2 or any(side < 1 for side in shape) for shape in shapes):
        raise ValueError(f"spatial_shapes must be one or more (height, width) of at least (1, 1), got {shapes}")
    cells = sum(height * width for height, width in shapes)
    if value.shape[1] != cells:
        raise ValueError(f"value has {value.shape[1]} cells but spatial_shapes {shapes} have {cells}")
