"""What detectors do with boxes beyond torchvision.ops: boxes are x1, y1, x2, y2 in pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import nms

from piip.batches import Size

_MANY = 10_000  # boxes
_NO_AREA = 1e-12  # far below that of a thousandth of a pixel, even in units of the image


def numbers(values: Sequence[float], device: torch.device) -> Tensor:
    """A few float32 numbers, filled in on the device: copying them there would mean to wait for it."""
    return torch.stack([torch.full((), value, dtype=torch.float32, device=device) for value in values])


def resize_factors(original: Size, resized: Size, device: torch.device) -> Tensor:
    """What the coordinates of boxes are multiplied by when their image is resized: (4,), float32."""
    y, x = (after / before for before, after in zip(original, resized, strict=True))
    return numbers((x, y, x, y), device)


def larger_than(boxes: Tensor, size: float) -> Tensor:
    """Which boxes (..., 4) are wider and higher than `size`: (...), bool."""
    return (boxes[..., 2:] - boxes[..., :2] > size).all(-1)


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression within each group: the boxes that stay, best first.

    torchvision's function of this name gives the same boxes but for rounding: it shifts the groups apart or takes them
    one by one, and chooses by other numbers on each device. Here, as in the official detectors, it is shifting for
    fewer than 10,000 boxes everywhere, so that a pair whose IoU is just the threshold falls the same way.

    Args:
        boxes: (N, 4).
        scores: (N,).
        groups: (N,), whole numbers from 0.
        iou_threshold: a box goes when it overlaps a better one by more than this.

    Returns:
        Indices (K,).
    """
    if not len(boxes):
        return groups.new_zeros(0, dtype=torch.int64)
    if len(boxes) < _MANY:
        shifts = groups.to(boxes.dtype) * (boxes.max() + 1)
        return nms(boxes + shifts[:, None], scores, iou_threshold)
    kept = []
    for group in groups.unique():
        members = (groups == group).nonzero().squeeze(1)
        kept.append(members[nms(boxes[members], scores[members], iou_threshold)])
    indices = torch.cat(kept).sort().values
    return indices[scores[indices].argsort(descending=True, stable=True)]


def generalized_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalised intersection over union (arXiv 1902.09630), of any shapes that broadcast.

    torchvision's loss of this name waits for the device, and its function for pairs has no form for one to one.

    Args:
        boxes: (..., 4).
        others: (..., 4).

    Returns:
        (...), from -1 to 1; 0 for two boxes without extent that are in one place.
    """
    inner = (torch.min(boxes[..., 2:], others[..., 2:]) - torch.max(boxes[..., :2], others[..., :2])).clamp(min=0)
    outer = torch.max(boxes[..., 2:], others[..., 2:]) - torch.min(boxes[..., :2], others[..., :2])
    intersection, hull = inner.prod(-1), outer.prod(-1)
    union = _areas(boxes) + _areas(others) - intersection
    return intersection / union.clamp(min=_NO_AREA) - (hull - union) / hull.clamp(min=_NO_AREA)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1)
