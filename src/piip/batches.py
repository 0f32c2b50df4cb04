"""Images of different sizes in one batch, for models that look at whole pictures."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from piip.checks import check_type, shown

Size = tuple[int, int]
"""Height and width, in pixels."""


class ImageBatch(NamedTuple):
    """Images of different sizes in one tensor: each stands at the top left, with zeros to its right and below.

    Attributes:
        pixels: (B, 3, H, W), normalised before they were padded.
        sizes: of each image in `pixels`, without the padding.
        original_sizes: of each image before it was resized, which is what predictions refer to.
        padded_sizes: of each image with its own padding (to a multiple of 32, say), before the padding to the size of
            `pixels`. Mask R-CNN learns in this part what is no object; UperNet sees this part in evaluation, so that
            what it says of an image does not depend on the others. None for the whole of `pixels`.
    """

    pixels: Tensor
    sizes: tuple[Size, ...]
    original_sizes: tuple[Size, ...]
    padded_sizes: tuple[Size, ...] | None = None

    @classmethod
    def of(cls, pixels: Tensor) -> Self:
        """Images (B, 3, H, W) that are neither resized nor padded.

        Raises:
            ValueError: for anything else.
        """
        check_type("pixels", pixels, Tensor, "a tensor (B, 3, H, W)")
        if pixels.dim() != 4:
            raise ValueError(f"pixels: expected a tensor (B, 3, H, W), got {shown(pixels)}")
        sizes = ((pixels.shape[2], pixels.shape[3]),) * len(pixels)
        return cls(pixels, sizes, sizes)


def check_batch(images: ImageBatch) -> None:
    """Refuse what is no batch, or one with other numbers of sizes than of images.

    Raises:
        ValueError: saying what was given.
    """
    check_type("images", images, ImageBatch, "an ImageBatch, which ImageBatch.of makes of a tensor (B, 3, H, W)")
    counts = len(images.pixels), len(images.sizes), len(images.original_sizes)
    if len(set(counts)) > 1:
        raise ValueError(
            f"images: {counts[0]} in pixels, but {counts[1]} sizes and {counts[2]} original_sizes; give one for each"
        )


class PreparedImage(NamedTuple):
    """An image for a model.

    Attributes:
        pixels: (3, H, W), normalised.
        original_size: before it was resized.
    """

    pixels: Tensor
    original_size: Size


def collate_images(images: Sequence[PreparedImage], size_divisor: int = 1) -> ImageBatch:
    """Pad images with zeros to a common size, the least multiple of `size_divisor` that all fit in."""
    sizes = tuple((image.pixels.shape[1], image.pixels.shape[2]) for image in images)
    padded = tuple((_round_up(height, size_divisor), _round_up(width, size_divisor)) for height, width in sizes)
    largest = max(height for height, _ in padded), max(width for _, width in padded)
    pixels = torch.stack([pad_to(image.pixels, largest) for image in images])
    return ImageBatch(pixels, sizes, tuple(image.original_size for image in images), padded)


def pad_to(maps: Tensor, size: Size) -> Tensor:
    """Pad maps (..., h, w) with zeros to their right and below."""
    return F.pad(maps, (0, size[1] - maps.shape[-1], 0, size[0] - maps.shape[-2]))


def _round_up(number: int, divisor: int) -> int:
    return -(-number // divisor) * divisor
