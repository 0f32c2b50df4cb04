"""What goes into a detector and what comes out of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from piip.batches import ImageBatch, Size
from piip.checks import check_type, shown


class Target(NamedTuple):
    """The objects of one image, at the scale of the network's input; possibly none.

    Attributes:
        boxes: (N, 4), as x1, y1, x2, y2 in pixels of `ImageBatch.pixels`; none is empty, since that could not be found.
        labels: (N,), int64, counted from 0.
        masks: (N, H, W), bool, as large as `ImageBatch.pixels`; None where a task does without them.
        has_mask: (N,), bool: whose masks are known; the others are not learned from. None where all are.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor | None = None
    has_mask: Tensor | None = None


def check_targets(images: ImageBatch, targets: Sequence[Target]) -> None:
    """Refuse targets that are not one for each image, or whose boxes and labels do not fit each other.

    Raises:
        ValueError: naming the target.
    """
    check_type("targets", targets, list | tuple, "a list of a Target for each image")
    if len(targets) != len(images.pixels):
        raise ValueError(f"targets: {len(targets)}, but the batch has {len(images.pixels)} images")
    for number, target in enumerate(targets):
        check_type(f"targets[{number}]", target, Target, "a Target")
        boxes, labels = target.boxes, target.labels
        for name, value in (("boxes", boxes), ("labels", labels)):
            check_type(f"targets[{number}].{name}", value, Tensor, "a tensor")
        if boxes.shape != (len(boxes), 4) or labels.shape != (len(boxes),) or labels.dtype != torch.int64:
            raise ValueError(
                f"targets[{number}]: expected boxes (N, 4) and labels (N,), int64; got {shown(boxes)} and "
                f"{shown(labels)}"
            )


@dataclass(frozen=True, kw_only=True)
class Detections:
    """The objects found in one image, best first, in the coordinates of the original image.

    Attributes:
        boxes: (N, 4), as x1, y1, x2, y2 in pixels.
        scores: (N,), from 0 to 1.
        labels: (N,), int64, counted from 0.
        mask_probs: (N, M, M), how likely each cell of a grid over the box belongs to the object; None of a detector
            without masks. `piip.tasks.detection.masks` makes masks of the image's size of them, in pieces, because
            those of a large photo do not fit in memory at once.
        image_size: of the original image.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    mask_probs: Tensor | None
    image_size: Size
