"""Which object each box is to find: by their overlap."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou

from piip.config import check_fields

BACKGROUND = -1
"""The match of a box that is to find nothing."""

IGNORED = -2
"""The match of a box that is not learned from."""


_BLOCK = 2**22  # overlaps


def overlaps(objects: Tensor, boxes: Tensor) -> Iterator[Tensor]:
    """The IoUs of objects (N, 4) with boxes (M, 4), in blocks (n, M) of as many objects as take little memory.

    A large image has half a million anchors: with hundreds of objects, all at once would take gigabytes.
    """
    for block in objects.split(max(1, _BLOCK // max(1, len(boxes)))):
        yield box_iou(block, boxes)


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

    def match(self, ious: Iterable[Tensor]) -> Tensor:
        """Match boxes to objects.

        Args:
            ious: (objects, boxes), one block of objects after the other, at least one block (see `overlaps`); negative
                for boxes that are to be ignored.

        Returns:
            For each box the index of its object, `BACKGROUND` or `IGNORED`: (boxes,), int64.
        """
        count, found = 0, None
        for block in ious:
            own = self._look_at(block, count)
            found = own if found is None or not count else _merge(found, own)
            count += len(block)
        if found is None:
            raise ValueError("ious: expected at least one block")
        if not count:
            return torch.full_like(found.objects, BACKGROUND)
        best = found.overlaps
        background = (best >= 0) & (best < self.negative_iou)
        unmatched = torch.where(background, BACKGROUND, IGNORED)
        matches = torch.where(best >= self.positive_iou, found.objects, unmatched)
        return torch.where(found.favourites >= 0, found.favourites, matches)

    def _look_at(self, ious: Tensor, first: int) -> "_Found":
        """Match boxes to a block of objects, which are numbered from `first` on."""
        objects, boxes = ious.shape
        nothing = torch.full((boxes,), -1, device=ious.device)
        if not objects or not boxes:
            return _Found(nothing.to(ious.dtype), nothing, nothing)
        best, matches = ious.max(0)
        if self.low_quality_iou is None:
            return _Found(best, matches + first, nothing)
        best_of_object = ious.amax(1, keepdim=True)
        is_best = (ious == best_of_object) & (best_of_object >= self.low_quality_iou)
        numbers = torch.arange(first, first + objects, dtype=torch.int32, device=ious.device)[:, None]
        return _Found(best, matches + first, torch.where(is_best, numbers, -1).amax(0).long())


class _Found(NamedTuple):
    """What is known of each box after some objects.

    Attributes:
        overlaps: the largest, with any of the objects.
        objects: the first one of those that it overlaps so much.
        favourites: the last object that overlaps no box more than this one; -1 if there is none.
    """

    overlaps: Tensor
    objects: Tensor
    favourites: Tensor


def _merge(earlier: _Found, later: _Found) -> _Found:
    is_better = later.overlaps > earlier.overlaps
    return _Found(
        torch.where(is_better, later.overlaps, earlier.overlaps),
        torch.where(is_better, later.objects, earlier.objects),
        torch.maximum(later.favourites, earlier.favourites),
    )
