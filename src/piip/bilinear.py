"""Bilinear resizing of 8-bit images, to the pixel as OpenCV does it: detectors and segmentors were trained on that.

Neither torchvision nor Pillow give the same pixels (a fifth of them are off by one), because OpenCV rounds the weights
to 11 bits and cuts off 4 + 16 + 2 bits on the way.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ONE = 2048  # the weight 1, in 11 bits
_BLOCK = 32  # output rows at a time, so that intermediate values stay in the cache


def fit_size(size: tuple[int, int], scale: tuple[float, float]) -> tuple[int, int]:
    """The largest size of the same ratio that fits the scale: a longer and a shorter side, in any order."""
    factor = min(max(scale) / max(size), min(scale) / min(size))
    height, width = (max(1, int(side * factor + 0.5)) for side in size)
    return height, width


def resize_bilinear(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes an image as `cv2.resize` does with `INTER_LINEAR`, which reads four pixels even where it shrinks a lot.

    Args:
        image: uint8 `(C, H, W)`, on the CPU.
        size: Height and width of the result.

    Returns:
        uint8 `(C, *size)`; its memory is laid out channels last.
    """
    channels, height, width = image.shape
    pixels = image.permute(1, 2, 0).contiguous().numpy().reshape(height, width * channels)
    left, right, left_weight, right_weight = _neighbours(width, size[1])
    inside = (left >= 0) & (right < width)  # beyond the edge OpenCV repeats the last column, but not the last row
    left_weight, right_weight = np.where(inside, left_weight, _ONE), np.where(inside, right_weight, 0)
    left, right = (_spread(np.clip(at, 0, width - 1), channels) for at in (left, right))
    left_weight, right_weight = left_weight.repeat(channels), right_weight.repeat(channels)
    top, bottom, top_weight, bottom_weight = _neighbours(height, size[0])
    top, bottom = np.clip(top, 0, height - 1), np.clip(bottom, 0, height - 1)
    resized = np.empty((size[0], size[1] * channels), dtype=np.uint8)
    for start in range(0, size[0], _BLOCK):
        block = slice(start, start + _BLOCK)
        first = top[block][0]
        source = pixels[first : bottom[block][-1] + 1].astype(np.int32)
        rows = _weigh(source.take(left, axis=1), left_weight, 0)
        rows += _weigh(source.take(right, axis=1), right_weight, 0)
        rows >>= 4
        values = _weigh(rows[top[block] - first], top_weight[block, None], 16)
        values += _weigh(rows[bottom[block] - first], bottom_weight[block, None], 16)
        values += 2
        values >>= 2
        resized[block] = values
    return torch.from_numpy(resized.reshape(*size, channels)).permute(2, 0, 1)


def _neighbours(
    size: int, resized: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """The two pixels along one axis that each resized pixel lies between, possibly outside, and their weights."""
    at = ((np.arange(resized) + 0.5) * (1.0 / (resized / size)) - 0.5).astype(np.float32)
    before = np.floor(at)
    fraction = at - before
    weights = (np.rint(part * np.float32(_ONE)).astype(np.int32) for part in (1 - fraction, fraction))
    return before.astype(np.int64), before.astype(np.int64) + 1, *weights


def _spread(at: NDArray[np.int64], channels: int) -> NDArray[np.int64]:
    """Places of pixels to places of their channels, which follow one another in memory."""
    return (at[:, None] * channels + np.arange(channels)).ravel()


def _weigh(values: NDArray[np.int32], weights: NDArray[np.int32], drop_bits: int) -> NDArray[np.int32]:
    """Multiplies in place."""
    values *= weights
    values >>= drop_bits
    return values
