"""Image folders, and the way from an image file to the tensors that a classifier reads."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import timm.data
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from piip.config import check_fields, listing
from piip.images import images_below, read_image

ImageTransform = Callable[[Image.Image], Tensor]
"""From an RGB image to a float tensor `(3, H, W)`."""


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """How an image is prepared for a classifier; kept beside the model, because its weights expect it.

    Attributes:
        input_size: Side of the square that the model is given, in pixels. None for that of the model's pyramid:
            `ClassificationConfig` puts it in.
        crop_ratio: Part of the shorter side that the square covers, in (0, 1]: before cropping, the shorter side is
            resized to `input_size / crop_ratio`.
        mean: Subtracted from each channel, on the scale 0 to 1.
        std: Divides each channel after that.
        interpolation: Of the resizing (antialiased).
    """

    input_size: int | None = None
    crop_ratio: float = 1.0
    mean: tuple[float, float, float] = timm.data.IMAGENET_DEFAULT_MEAN
    std: tuple[float, float, float] = timm.data.IMAGENET_DEFAULT_STD
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"

    def __post_init__(self) -> None:
        check_fields(self, "preprocess.")
        if self.input_size is not None and self.input_size < 1:
            raise ValueError(f"input_size={self.input_size} must be positive")
        if not 0 < self.crop_ratio <= 1:
            raise ValueError(f"crop_ratio={self.crop_ratio} must be above 0 and at most 1")
        if not all(0 < value < math.inf for value in self.std):
            raise ValueError(f"std={self.std} must be positive")

    def build(self) -> ImageTransform:
        """Returns the transform for evaluation, that of the official release: resize, crop the centre, normalise.

        Raises:
            ValueError: If `input_size` is None.
        """
        transform: ImageTransform = timm.data.create_transform(
            _known_size(self),
            is_training=False,
            crop_pct=self.crop_ratio,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
        )
        return transform


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Random changes to a training image, by timm; the defaults are those that the released models were trained with.

    Attributes:
        scale: Smallest and largest part of the image's area that the random crop covers.
        ratio: Smallest and largest ratio of width to height of the crop.
        hflip: Probability of a horizontal flip.
        color_jitter: Strength of random brightness, contrast and saturation. As timm has it, this is left out when
            `auto_augment` is set (unless that is a "3a" policy), since RandAugment changes colours itself.
        auto_augment: A policy in timm's notation ("rand-m9-mstd0.5-inc1", "augmix-m3", "3a", ...), or None.
        random_erasing: Probability of replacing a rectangle by noise.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: float = 0.5
    color_jitter: float = 0.3
    auto_augment: str | None = "rand-m9-mstd0.5-inc1"
    random_erasing: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "augmentation.")
        for name, low, high, largest in (("scale", *self.scale, 1.0), ("ratio", *self.ratio, float("inf"))):
            if not 0 < low <= high <= largest:
                raise ValueError(f"{name}={(low, high)} must be two increasing numbers above 0 and at most {largest}")
        for name, value in (("hflip", self.hflip), ("random_erasing", self.random_erasing)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} is a probability and must be within 0...1")
        if not 0 <= self.color_jitter < math.inf:
            raise ValueError(f"color_jitter={self.color_jitter} must be a number, and not negative")

    def build(self, preprocess: PreprocessConfig) -> ImageTransform:
        """Returns the transform for training images, drawing from the process-wide random generators.

        Args:
            preprocess: Gives size, normalisation and interpolation; its `crop_ratio` has no part in training.

        Raises:
            ValueError: If timm does not know the policy `auto_augment`, or `preprocess.input_size` is None.
        """
        input_size = _known_size(preprocess)
        try:
            transform: ImageTransform = timm.data.create_transform(
                input_size,
                is_training=True,
                scale=self.scale,
                ratio=self.ratio,
                hflip=self.hflip,
                color_jitter=self.color_jitter,
                auto_augment=self.auto_augment,
                interpolation=preprocess.interpolation,
                mean=preprocess.mean,
                std=preprocess.std,
                re_prob=self.random_erasing,
                re_mode="pixel",
            )
        except AssertionError as error:
            raise ValueError(f"auto_augment={self.auto_augment!r} is no policy that timm knows: {error}") from error
        return transform


def _known_size(preprocess: PreprocessConfig) -> int:
    if preprocess.input_size is None:
        raise ValueError("preprocess.input_size: is None; set it, or take the preprocess of a ClassificationConfig")
    return preprocess.input_size


class ImageFolder(Dataset[tuple[Tensor, int]]):
    """Labelled images, one folder a class.

    Args:
        class_names: Name of each label.
        samples: Path and label of each image.
        transform: Applied to each image when it is read.
    """

    def __init__(
        self, class_names: Sequence[str], samples: Sequence[tuple[str, int]], transform: ImageTransform
    ) -> None:
        self.class_names = tuple(class_names)
        self.samples = tuple(samples)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Returns the transformed image and its label.

        Raises:
            ImageError: If the file cannot be decoded; the message has its path.
        """
        path, label = self.samples[index]
        return self.transform(read_image(path)), label


def open_image_folder(
    root: str | os.PathLike[str],
    split: str,
    transform: ImageTransform,
    class_names: Sequence[str] | None = None,
) -> ImageFolder:
    """Opens `root/split/<class>/**/*.jpg`, the layout of ImageNet and of torchvision's `ImageFolder`.

    Args:
        root: The dataset.
        split: Folder in it, `"train"` or `"val"`.
        transform: Applied to each image when it is read.
        class_names: The classes that must be there, in the order of their labels: those of the training images, or of
            the model. By default the class folders in alphabetical order.

    Raises:
        ValueError: If there is no such folder, no class in it, a class without images, or the classes are not
            `class_names`.
    """
    folder = Path(root, split)
    found = find_classes(root, split)
    if class_names is None:
        class_names = found
    _check_classes(folder, found, class_names)
    images = [images_below(folder / name) for name in class_names]
    empty = [name for name, paths in zip(class_names, images, strict=True) if not paths]
    if empty:
        raise ValueError(f"'{folder}': {len(empty)} of {len(found)} class folders hold no image: {listing(empty)}")
    samples = [(path, label) for label, paths in enumerate(images) for path in paths]
    return ImageFolder(class_names, samples, transform)


def find_classes(root: str | os.PathLike[str], split: str) -> tuple[str, ...]:
    """The names of the class folders of a split, sorted.

    Raises:
        ValueError: If there is no such folder, or no class in it.
    """
    folder = Path(root, split)
    if not folder.is_dir():
        raise ValueError(f"'{folder}' is no folder: expected the images of a split as {folder}/<class>/<image>")
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not found:
        raise ValueError(f"'{folder}' has no class folders: expected images as {folder}/<class>/<image>")
    return tuple(found)


def _check_classes(folder: Path, found: Sequence[str], expected: Sequence[str]) -> None:
    missing = sorted(set(expected) - set(found))
    unexpected = sorted(set(found) - set(expected))
    differences = [f"{listing(missing)} missing"] * bool(missing) + [f"{listing(unexpected)} not expected"] * bool(
        unexpected
    )
    if differences:
        raise ValueError(
            f"the {len(found)} class folders in '{folder}' are not the {len(expected)} classes of the model or of the "
            f"training images: {'; '.join(differences)}"
        )
