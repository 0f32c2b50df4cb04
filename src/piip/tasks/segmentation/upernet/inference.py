"""From images to the class of each of their pixels: the whole image at once, or window by window."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from piip.batches import Size
from piip.config import check_fields
from piip.pyramid.merging import resize_map

Network = Callable[[Tensor], Tensor]
"""From images (B, 3, H, W) to logits (B, num_classes, h, w), at any scale."""

_CHUNK = 2**25  # numbers in the maps of the classes that are resized at a time: 128 MB; more of them take longer


@dataclass(frozen=True, kw_only=True)
class WholeInference:
    """The network sees the whole image."""

    def run(self, network: Network, pixels: Tensor, _num_classes: int) -> Tensor:
        """Compute the logits (num_classes, h, w) of one image (1, 3, H, W), in float32, at the network's scale."""
        return network(pixels)[0].float()


@dataclass(frozen=True, kw_only=True)
class SlidingInference:
    """The network sees windows, and where they overlap, their logits are averaged.

    Attributes:
        crop: height and width of a window. A side of an image that is shorter is seen as a whole.
        stride: from a window to the next, down and right; the last ones are moved back to end with the image.
        batch_size: windows that the network sees at a time.
    """

    crop: Size = (512, 512)
    stride: Size = (341, 341)
    batch_size: int = 4

    def __post_init__(self) -> None:
        """Refuse windows that leave pixels out."""
        check_fields(self, "inference.")
        if min(self.stride) < 1 or any(step > side for step, side in zip(self.stride, self.crop, strict=True)):
            raise ValueError(
                f"inference.stride: expected from 1 to the crop's {self.crop}, so that every pixel is in a window; got "
                f"{self.stride}"
            )
        if self.batch_size < 1:
            raise ValueError(f"inference.batch_size: expected at least 1, got {self.batch_size}")

    def run(self, network: Network, pixels: Tensor, num_classes: int) -> Tensor:
        """Compute the logits (num_classes, H, W) of one image (1, 3, H, W), in float32."""
        height, width = pixels.shape[-2:]
        rows, columns = _spans(height, self.crop[0], self.stride[0]), _spans(width, self.crop[1], self.stride[1])
        total = torch.zeros(num_classes, height, width, device=pixels.device)
        windows = list(product(rows, columns))
        for first in range(0, len(windows), self.batch_size):
            part = windows[first : first + self.batch_size]
            crops = torch.cat([pixels[..., row, column] for row, column in part])
            logits = resize_map(network(crops).float(), *crops.shape[-2:])
            for (row, column), own in zip(part, logits, strict=True):
                total[:, row, column] += own
        return total.div_(_count(rows, height, total)[:, None] * _count(columns, width, total))


Inference = WholeInference | SlidingInference


def _spans(side: int, crop: int, step: int) -> list[slice]:
    """The windows along a side of the image."""
    crop = min(crop, side)
    starts = (min(first, side - crop) for first in range(0, side - crop + step, step))
    return [slice(start, start + crop) for start in starts]


def _count(spans: list[slice], side: int, like: Tensor) -> Tensor:
    """How many of the windows each pixel of a side is in."""
    count = like.new_zeros(side)
    for span in spans:
        count[span] += 1
    return count


def rescale(logits: Tensor, padded: Size, size: Size, original: Size) -> Tensor:
    """Bring logits to the original image.

    Args:
        logits: (num_classes, h, w), of the image with its padding, at any scale.
        padded: size of the image with its padding, to which they are resized.
        size: size of the image alone, to which they are cut.
        original: to which they are resized at last.
    """
    at_input = resize_map(logits[None], *padded)[..., : size[0], : size[1]]
    return resize_map(at_input, *original)[0]


def label_map(logits: Tensor, padded: Size, size: Size, original: Size) -> Tensor:
    """The most likely class of each pixel of the original image: (H, W), int64; the first of equally likely ones.

    The maps of all classes would not fit in memory for a large photo. So a few classes at a time are brought to the
    original size and compared with the best ones before them, which gives exactly the same.

    Args:
        logits: as for `rescale`.
        padded: likewise.
        size: likewise.
        original: likewise.
    """
    best = logits.new_full(original, -torch.inf)
    labels = torch.zeros(original, dtype=torch.uint8, device=logits.device)  # there are no more than 255 classes
    classes = max(1, _CHUNK // max(padded[0] * padded[1], original[0] * original[1]))
    for first in range(0, len(logits), classes):
        part = rescale(logits[first : first + classes], padded, size, original)
        for label, scores in enumerate(part, first):
            labels.masked_fill_(scores > best, label)
            torch.maximum(best, scores, out=best)
    return labels.long()
