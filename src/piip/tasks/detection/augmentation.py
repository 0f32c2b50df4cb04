"""How images are prepared for a detector, and what is changed in those that it is trained on."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm.data
import torch
from torchvision.transforms import v2

from piip.config import check_fields
from piip.tasks.detection.transforms import DropEmptyBoxes, RandomCrop, ResizeToFit, ScaleJitter

DetectionTransform = Callable[..., Any]
"""From a uint8 `tv_tensors.Image` to one for a model.

In training also its objects (`boxes` and what else there is of each, which is not changed) and its `pixel_grid`, or
None where no masks are wanted.
"""


@dataclass(frozen=True, kw_only=True)
class DetectionPreprocessConfig:
    """How an image is prepared for a detector; kept beside the model, because its weights expect it.

    Attributes:
        scale: Longest and shortest side at most: an image is made as large as they allow, keeping its ratio.
        mean: Subtracted from each channel, on the scale 0 to 1.
        std: Divides each channel after that.
        size_divisor: Height and width are padded (after that, with zeros, right and below) to a multiple of this.
    """

    scale: tuple[int, int] = (1333, 800)
    mean: tuple[float, float, float] = timm.data.IMAGENET_DEFAULT_MEAN
    std: tuple[float, float, float] = timm.data.IMAGENET_DEFAULT_STD
    size_divisor: int = 32

    def __post_init__(self) -> None:
        check_fields(self, "preprocess.")
        if not 1 <= self.scale[1] <= self.scale[0]:
            raise ValueError(f"scale={self.scale} must be two positive sides, the longer one first")
        if not all(0 < value < math.inf for value in self.std):
            raise ValueError(f"std={self.std} must be positive")
        if self.size_divisor < 1:
            raise ValueError(f"size_divisor={self.size_divisor} must be positive")

    def build(self) -> DetectionTransform:
        """Returns the transform for evaluation, that of the official release up to the padding."""
        return v2.Compose([ResizeToFit([self.scale]), *self.normalisation()])

    def normalisation(self) -> list[torch.nn.Module]:
        """The steps from pixels of 0 to 255 to what the model takes."""
        mean, std = ([255 * value for value in values] for values in (self.mean, self.std))
        return [v2.ToDtype(torch.float32), v2.Normalize(mean, std)]


@dataclass(frozen=True, kw_only=True)
class SingleScaleConfig:
    """What the official 1x schedules do: the scale of the evaluation, and a horizontal flip.

    Attributes:
        hflip: Probability of the flip.
    """

    hflip: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self, "augmentation.")
        _check_probability(self.hflip)

    def build(self, preprocess: DetectionPreprocessConfig) -> DetectionTransform:
        """Returns the transform for training images."""
        return _compose(preprocess, ResizeToFit([preprocess.scale]), v2.RandomHorizontalFlip(self.hflip))


@dataclass(frozen=True, kw_only=True)
class MultiScaleConfig:
    """What the official "ms" schedules do: a flip, then one of two things.

    Either the image is resized, or it is resized, cropped and resized again; too large a result is cropped. All sizes
    are parts of the shorter side of `DetectionPreprocessConfig.scale`, as in all three official ones (800, 1200, 1400).

    Attributes:
        hflip: Probability of a horizontal flip.
        shorter_sides: What the shorter side may be at most in the end; one is drawn.
        shorter_sides_before_crop: What it may be at most before the crop; one is drawn.
        crop: Smallest and largest side of the crop.
        max_side: Largest side of the result.
    """

    hflip: float = 0.5
    shorter_sides: tuple[float, ...] = (0.6, 0.64, 0.68, 0.72, 0.76, 0.8, 0.84, 0.88, 0.92, 0.96, 1.0)
    shorter_sides_before_crop: tuple[float, ...] = (0.5, 0.625, 0.75)
    crop: tuple[float, float] = (0.48, 0.75)
    max_side: float = 1.28

    def __post_init__(self) -> None:
        check_fields(self, "augmentation.")
        _check_probability(self.hflip)
        for name in ("shorter_sides", "shorter_sides_before_crop"):
            values = getattr(self, name)
            if not values or not all(0 < value < math.inf for value in values):
                raise ValueError(f"{name}={values} must be one or more positive numbers")
        if not 0 < self.crop[0] <= self.crop[1] < math.inf:
            raise ValueError(f"crop={self.crop} must be two increasing positive numbers")
        if not 0 < self.max_side < math.inf:
            raise ValueError(f"max_side={self.max_side} must be positive")

    def build(self, preprocess: DetectionPreprocessConfig) -> DetectionTransform:
        """Returns the transform for training images."""
        longer, shorter = preprocess.scale
        last, before_crop = (
            ResizeToFit([(longer, round(part * shorter)) for part in parts])
            for parts in (self.shorter_sides, self.shorter_sides_before_crop)
        )
        smallest, largest, limit = (round(part * shorter) for part in (*self.crop, self.max_side))
        cropped = v2.Compose([before_crop, RandomCrop(smallest, largest), last])
        flip, choice = v2.RandomHorizontalFlip(self.hflip), v2.RandomChoice([last, cropped])
        return _compose(preprocess, flip, choice, RandomCrop(limit, limit))


@dataclass(frozen=True, kw_only=True)
class LargeScaleJitterConfig:
    """Large-scale jitter (Ghiasi et al., arXiv 2012.07177): a wide range of scales, cropped to a square at most.

    Attributes:
        size: Side of the square.
        factors: Smallest and largest scale, as parts of the one that fits the square.
        hflip: Probability of a horizontal flip.
    """

    size: int = 1024
    factors: tuple[float, float] = (0.1, 2.0)
    hflip: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self, "augmentation.")
        _check_probability(self.hflip)
        if self.size < 1:
            raise ValueError(f"size={self.size} must be positive")
        if not 0 < self.factors[0] <= self.factors[1] < math.inf:
            raise ValueError(f"factors={self.factors} must be two increasing positive numbers")

    def build(self, preprocess: DetectionPreprocessConfig) -> DetectionTransform:
        """Returns the transform for training images."""
        jitter, cut = ScaleJitter(self.size, self.factors), RandomCrop(self.size, self.size)
        return _compose(preprocess, jitter, cut, v2.RandomHorizontalFlip(self.hflip))


DetectionAugmentationConfig = SingleScaleConfig | MultiScaleConfig | LargeScaleJitterConfig
"""What is changed in training images; each has `build`, and draws from the process-wide random generators."""


def _compose(preprocess: DetectionPreprocessConfig, *steps: torch.nn.Module) -> DetectionTransform:
    return v2.Compose([*steps, DropEmptyBoxes(), *preprocess.normalisation()])


def _check_probability(hflip: float) -> None:
    if not 0 <= hflip <= 1:
        raise ValueError(f"hflip={hflip} is a probability and must be within 0...1")
