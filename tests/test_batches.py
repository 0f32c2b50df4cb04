"""Batches, and what is none."""

from typing import Any

import numpy as np
import pytest
import torch

from piip import ImageBatch
from piip.batches import check_batch

PIXELS = torch.zeros(2, 3, 8, 16)
SIZES = ((8, 16), (8, 12))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (None, r"pixels: expected a tensor \(B, 3, H, W\); got None"),
        ([PIXELS[0]], r"pixels: expected a tensor \(B, 3, H, W\); got a list"),
        (np.zeros((2, 3, 8, 16)), r"pixels: expected a tensor \(B, 3, H, W\); got a ndarray"),
        (PIXELS[0], r"pixels: expected a tensor \(B, 3, H, W\), got a torch\.float32 tensor of shape \(3, 8, 16\)"),
    ],
)
def test_what_no_batch_can_be_made_of(pixels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageBatch.of(pixels)


def test_batches() -> None:
    check_batch(ImageBatch.of(PIXELS))
    check_batch(ImageBatch(PIXELS, SIZES, SIZES))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (None, r"images: expected an ImageBatch, which ImageBatch\.of makes of a tensor \(B, 3, H, W\); got None"),
        (PIXELS, r"images: expected an ImageBatch, .*; got a torch\.float32 tensor of shape \(2, 3, 8, 16\)"),
        (ImageBatch(PIXELS, SIZES[:1], SIZES), "images: 2 in pixels, but 1 sizes and 2 original_sizes; give one for"),
        (ImageBatch(PIXELS, SIZES, ()), "images: 2 in pixels, but 2 sizes and 0 original_sizes"),
    ],
)
def test_what_is_no_batch(images: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_batch(images)
