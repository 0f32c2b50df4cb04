"""The image of each branch."""

from fractions import Fraction

import torch
from torch import Tensor


def resize_in_proportion(images: Tensor, ratio: Fraction) -> Tensor:
    """Resize images (B, C, H, W) bilinearly by an exact ratio.

    Sides are rounded down, and the sampling step is `1 / ratio` whatever the rounding, as in the official code.
    That code rounds a product of floating-point numbers, which for some pairs of sizes gives a pixel less than
    it should (208/368 of 368 pixels: 207); here the product is exact.

    Raises:
        ValueError: when a side would vanish.
    """
    if ratio == 1:
        return images
    # Integer arithmetic on the sides alone: torch.compile makes them symbols when it meets a second image size.
    height, width = (side * ratio.numerator // ratio.denominator for side in images.shape[-2:])
    if not height or not width:
        raise ValueError(f"images: {tuple(images.shape[-2:])} pixels are too few to be resized by {ratio}")
    scale = float(ratio)
    return torch.ops.aten.upsample_bilinear2d.default(images, [height, width], False, scale, scale)
