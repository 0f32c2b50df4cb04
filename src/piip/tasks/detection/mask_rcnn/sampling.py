"""Which of many boxes are learned from: a random choice, with a fixed share of those that match an object."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from piip.config import check_fields
from piip.tasks.detection.mask_rcnn.matching import BACKGROUND


class Samples(NamedTuple):
    """Indices of the chosen boxes, (P,) that match an object and (N,) of the background."""

    positives: Tensor
    negatives: Tensor


def subsample(candidates: Tensor, count: int) -> Tensor:
    """Choose `count` of the candidates (N,), all of them if there are no more, at random on their device."""
    if len(candidates) <= count:
        return candidates
    return candidates[torch.randperm(len(candidates), device=candidates.device)[:count]]


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Chooses boxes of one image.

    Attributes:
        count: how many, fewer where there are not enough.
        positive_fraction: at most this share of them match an object; background fills the rest.
    """

    count: int
    positive_fraction: float

    def __post_init__(self) -> None:
        """Refuse to choose nothing."""
        check_fields(self, "sampler.")
        if self.count < 1:
            raise ValueError(f"sampler.count: expected at least 1, got {self.count}")
        if not 0 < self.positive_fraction <= 1:
            raise ValueError(
                f"sampler.positive_fraction: expected more than 0, at most 1; got {self.positive_fraction}"
            )

    def sample(self, matches: Tensor) -> Samples:
        """Choose among the boxes with these matches, (N,), of `MatcherConfig.match`.

        Waits for the device: how many boxes there are to choose from decides the shape of all that follows.
        """
        positives = subsample((matches >= 0).nonzero().squeeze(1), int(self.count * self.positive_fraction))
        negatives = subsample((matches == BACKGROUND).nonzero().squeeze(1), self.count - len(positives))
        return Samples(positives, negatives)
