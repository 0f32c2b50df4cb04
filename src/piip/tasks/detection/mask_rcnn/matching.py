"""Which object each box is to find: by their overlap."""

from dataclasses import dataclass

import torch
from torch import Tensor

from piip.config import check_fields

BACKGROUND = -1
"""The match of a box that is to find nothing."""

IGNORED = -2
"""The match of a box that is not learned from."""


@dataclass(frozen=True, kw_only=True)
class MatcherConfig:
    """Matches a box to the object that it overlaps most, if it does so enough (Faster R-CNN, section 3.1.2).

    Attributes:
        positive_iou: from this overlap on a box is to find the object.
        negative_iou: below this overlap with all objects it is background; between the two it is ignored.
        low_quality_iou: an object also gets the boxes that overlap it more than all others do, from this overlap on;
            None for no such boxes. An object further down the list takes them from one before it.
    """

    positive_iou: float = 0.5
    negative_iou: float = 0.5
    low_quality_iou: float | None = None

    def __post_init__(self) -> None:
        """Refuse overlaps that no box can have, or a box that would be object and background."""
        check_fields(self, "matcher.")
        if not 0 <= self.negative_iou <= self.positive_iou <= 1:
            raise ValueError(
                f"matcher: expected 0 <= negative_iou <= positive_iou <= 1, "
                f"got negative_iou={self.negative_iou} and positive_iou={self.positive_iou}"
            )
        if self.low_quality_iou is not None and not 0 < self.low_quality_iou <= 1:
            raise ValueError(f"matcher.low_quality_iou: expected more than 0, at most 1; got {self.low_quality_iou}")

    def match(self, ious: Tensor) -> Tensor:
        """Match boxes to objects.

        Args:
            ious: (objects, boxes); negative for boxes that are to be ignored.

        Returns:
            For each box the index of its object, `BACKGROUND` or `IGNORED`: (boxes,), int64.
        """
        objects, boxes = ious.shape
        if not objects:
            return torch.full((boxes,), BACKGROUND, device=ious.device)
        best, matches = ious.max(0)
        background = (best >= 0) & (best < self.negative_iou)
        unmatched = torch.where(background, BACKGROUND, IGNORED)
        matches = torch.where(best >= self.positive_iou, matches, unmatched)
        if self.low_quality_iou is None or not boxes:
            return matches
        best_of_object = ious.amax(1, keepdim=True)
        is_best = (ious == best_of_object) & (best_of_object >= self.low_quality_iou)
        numbers = torch.arange(1, objects + 1, device=ious.device)[:, None]
        last = (is_best * numbers).amax(0) - 1  # -1 where the box is no object's best
        return torch.where(last >= 0, last, matches)
