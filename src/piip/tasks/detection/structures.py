"""What goes into a detector and what comes out of it."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from piip.batches import Size


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
