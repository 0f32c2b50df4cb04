"""Boxes as what must be done to another box: the regression targets of R-CNN (arXiv 1311.2524, appendix C)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from piip.config import check_fields
from piip.tasks.detection.boxes import numbers

_MAX_LOG_RATIO = math.log(1000 / 16)  # a box grows or shrinks by 62.5 times at most, so that exp cannot overflow


@dataclass(frozen=True, kw_only=True)
class BoxCoder:
    """Encodes boxes relative to others, and decodes them, in float32.

    The four numbers are the shift of the centre in widths and heights, and the logarithms of the changes of width and
    height; each divided by its deviation.

    Attributes:
        stds: deviations, usual values of the four numbers.
    """

    stds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        """Refuse deviations that cannot be divided by."""
        check_fields(self, "box_coder.")
        if min(self.stds) <= 0:
            raise ValueError(f"box_coder.stds: expected positive numbers, got {self.stds}")

    def encode(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """What turns the boxes into the targets.

        Args:
            boxes: (..., 4), as x1, y1, x2, y2; not empty.
            targets: (..., 4), likewise.
        """
        centres, sizes = _centres_and_sizes(boxes.float())
        target_centres, target_sizes = _centres_and_sizes(targets.float())
        deltas = torch.cat(((target_centres - centres) / sizes, (target_sizes / sizes).log()), dim=-1)
        return deltas / numbers(self.stds, deltas.device)

    def decode(self, boxes: Tensor, deltas: Tensor) -> Tensor:
        """The boxes that the deltas turn these boxes into; shapes as for `encode`, broadcast against each other."""
        centres, sizes = _centres_and_sizes(boxes.float())
        deltas = deltas.float() * numbers(self.stds, deltas.device)
        shifts, log_ratios = deltas[..., :2], deltas[..., 2:].clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
        centres = centres + sizes * shifts
        halves = sizes * log_ratios.exp() * 0.5
        return torch.cat((centres - halves, centres + halves), dim=-1)


def _centres_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[..., :2] + boxes[..., 2:]) * 0.5, boxes[..., 2:] - boxes[..., :2]
