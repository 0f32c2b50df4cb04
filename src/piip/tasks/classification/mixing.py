"""Mixup, CutMix and label smoothing: what happens to a whole training batch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm.data
from timm.data.mixup import mixup_target
from torch import Tensor

from piip.config import check_fields
from piip.sampling import seeded

# timm does not annotate its classes' constructors.
_timm_mixup: Callable[..., Any] = timm.data.Mixup


@dataclass(frozen=True, kw_only=True)
class MixingConfig:
    """Settings of `BatchAugmentation`; the defaults are those that the released models were trained with.

    Attributes:
        mixup: Alpha of mixup (arXiv 1710.09412), which blends two images; 0 for none.
        cutmix: Alpha of CutMix (arXiv 1905.04899), which pastes a rectangle of one image into another; 0 for none.
        prob: Probability that a batch is mixed at all.
        switch_prob: Probability of CutMix rather than mixup where both are on.
        label_smoothing: Part of the target that is spread evenly over all classes.
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    prob: float = 1.0
    switch_prob: float = 0.5
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self, "mixing.")
        for name, value in (("mixup", self.mixup), ("cutmix", self.cutmix)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}={value} must be a number, and not negative")
        for name, value in (("prob", self.prob), ("switch_prob", self.switch_prob)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} is a probability and must be within 0...1")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing={self.label_smoothing} must be at least 0 and below 1")

    def build(self, num_classes: int) -> "BatchAugmentation":
        """Returns the batch augmentation for a classifier of `num_classes` classes."""
        return BatchAugmentation(self, num_classes)


class BatchAugmentation:
    """Mixes the images of a batch, each with the one at its place from the end, and their labels alike (by timm).

    Args:
        config: What to do.
        num_classes: Number of classes K.
    """

    def __init__(self, config: MixingConfig, num_classes: int) -> None:
        self.config = config
        self.num_classes = num_classes
        self._mix = _timm_mixup(
            mixup_alpha=config.mixup,
            cutmix_alpha=config.cutmix,
            prob=config.prob,
            switch_prob=config.switch_prob,
            label_smoothing=config.label_smoothing,
            num_classes=num_classes,
        )

    def __call__(self, images: Tensor, labels: Tensor, seed_key: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Returns new images and targets; the arguments stay as they are.

        Args:
            images: `(B, 3, H, W)`.
            labels: `(B,)`, int64.
            seed_key: All random draws are a pure function of it, for example `(seed, step)`. Processes that pass the
                same key mix with the same strength and rectangle.

        Returns:
            Images of the same shape, and targets: `(B, K)` probabilities; or, with nothing to mix or smooth, the labels
            as they came.

        Raises:
            ValueError: If the batch is to be mixed and its size is odd.
        """
        config = self.config
        if config.mixup == config.cutmix == 0:
            if config.label_smoothing == 0:
                return images, labels
            return images, self._smooth(labels)
        if len(images) % 2:
            raise ValueError(
                f"mixup and cutmix pair the images of a batch, so the batch size of each process must be even, "
                f"got {len(images)}: change it, or set mixup=0 and cutmix=0"
            )
        with seeded("mix", *seed_key):
            mixed, targets = self._mix(images.clone(), labels)  # timm mixes in place
        return mixed, targets

    def _smooth(self, labels: Tensor) -> Tensor:
        targets: Tensor = mixup_target(labels, self.num_classes, smoothing=self.config.label_smoothing)
        return targets
