"""What goes into a segmentor."""

from typing import NamedTuple

from torch import Tensor

Size = tuple[int, int]
"""Height and width, in pixels."""

IGNORED = 255
"""The label of pixels that are neither learned from nor counted."""


class ImageBatch(NamedTuple):
    """Images of different sizes in one tensor: each stands at the top left, with zeros to its right and below.

    Attributes:
        pixels: (B, 3, H, W), normalised before they were padded.
        sizes: of each image in `pixels`, without the padding.
        original_sizes: of each image before it was resized, which is the size of its label map.
        padded_sizes: in evaluation, the part of `pixels` that the network sees of each image: with `sizes` for it, the
            label map of an image does not depend on the others of its batch. None for the whole of `pixels`.
    """

    pixels: Tensor
    sizes: tuple[Size, ...]
    original_sizes: tuple[Size, ...]
    padded_sizes: tuple[Size, ...] | None = None
