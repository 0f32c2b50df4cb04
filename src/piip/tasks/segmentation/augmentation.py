"""How images are prepared for a segmentor, and what is changed in those that it is trained on."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import timm.data
from torchvision.transforms import v2

from piip.config import check_fields
from piip.tasks.segmentation.transforms import (
    PadToSquare,
    RandomColours,
    RandomCropOfClasses,
    RandomResize,
    ResizeShortSide,
    normalisation,
)

SegmentationTransform = Callable[..., Any]
"""From a uint8 `tv_tensors.Image`, alone or with its labels (uint8 `tv_tensors.Mask`), to the same for a model."""


@dataclass(frozen=True, kw_only=True)
class SegmentationPreprocessConfig:
    """How an image is prepared for a segmentor; kept beside the model, because its weights expect it.

    Attributes:
        short_side: What the shorter side of an image is made, in pixels; the longer one keeps its ratio to it. Also the
            side of the squares that the model is trained on.
        mean: Subtracted from each channel, on the scale 0 to 1.
        std: Divides each channel after that.
    """

    short_side: int = 512
    mean: tuple[float, float, float] = timm.data.IMAGENET_DEFAULT_MEAN
    std: tuple[float, float, float] = timm.data.IMAGENET_DEFAULT_STD

    def __post_init__(self) -> None:
        check_fields(self, "preprocess.")
        if self.short_side < 1:
            raise ValueError(f"short_side={self.short_side} must be positive")
        if not all(0 < value < math.inf for value in self.std):
            raise ValueError(f"std={self.std} must be positive")

    def build(self) -> SegmentationTransform:
        """Returns the transform for evaluation, that of the official release."""
        return v2.Compose([ResizeShortSide(self.short_side), *normalisation(self.mean, self.std)])


@dataclass(frozen=True, kw_only=True)
class ColourConfig:
    """Random changes of colours, each in half of the images; the defaults are those of the official release.

    Attributes:
        brightness: The most that is added to or taken from all colours, of 255.
        contrast: Smallest and largest factor of all colours.
        saturation: Smallest and largest factor of the saturation.
        hue: The most that the hue is turned either way, as a part of the circle.
    """

    brightness: float = 32.0
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self, "augmentation.colours.")
        if not 0 <= self.brightness <= 255:
            raise ValueError(f"brightness={self.brightness} must be within 0...255")
        for name, (low, high) in (("contrast", self.contrast), ("saturation", self.saturation)):
            if not 0 <= low <= high < math.inf:
                raise ValueError(f"{name}={(low, high)} must be two increasing numbers, from 0 on")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue={self.hue} must be within 0...0.5")


@dataclass(frozen=True, kw_only=True)
class SegmentationAugmentationConfig:
    """What is changed in training images; the defaults are those of the official release.

    An image is resized, cut to a square, perhaps flipped, and its colours change; where it is smaller than the square,
    the rest is not learned from. The square is as large as `SegmentationPreprocessConfig.short_side`.

    Attributes:
        factors: Smallest and largest factor of the size that the image has in evaluation.
        max_ratio: Of the longer side to the shorter one: a longer image is made smaller, to fit.
        class_limit: What a class may have of the labelled pixels of a square; if it has more, another one is tried, up
            to ten times. 1 for no limit.
        hflip: Probability of a horizontal flip.
        colours: What happens to the colours; None for nothing.
    """

    factors: tuple[float, float] = (0.5, 2.0)
    max_ratio: float = 4.0
    class_limit: float = 0.75
    hflip: float = 0.5
    colours: ColourConfig | None = field(default_factory=ColourConfig)

    def __post_init__(self) -> None:
        check_fields(self, "augmentation.")
        if not 0 < self.factors[0] <= self.factors[1] < math.inf:
            raise ValueError(f"factors={self.factors} must be two increasing positive numbers")
        if not 1 <= self.max_ratio < math.inf:
            raise ValueError(f"max_ratio={self.max_ratio} must be at least 1")
        if not 0 < self.class_limit <= 1:
            raise ValueError(f"class_limit={self.class_limit} must be above 0 and at most 1")
        if not 0 <= self.hflip <= 1:
            raise ValueError(f"hflip={self.hflip} is a probability and must be within 0...1")

    def build(self, preprocess: SegmentationPreprocessConfig) -> SegmentationTransform:
        """Returns the transform for training images, drawing from the process-wide random generators."""
        side, colours = preprocess.short_side, self.colours
        steps = [
            RandomResize((round(self.max_ratio * side), side), self.factors),
            RandomCropOfClasses(side, self.class_limit),
            v2.RandomHorizontalFlip(self.hflip),
        ]
        if colours is not None:
            steps.append(RandomColours(colours.brightness, colours.contrast, colours.saturation, colours.hue))
        return v2.Compose([*steps, *normalisation(preprocess.mean, preprocess.std), PadToSquare(side)])
