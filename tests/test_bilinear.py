"""Bilinear resizing, against what OpenCV 5.0.0 made of the same images (4.14 gives the same)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from piip.bilinear import fit_size, resize_bilinear

ARRAYS = np.load(Path(__file__).parent / "data" / "bilinear_opencv5.npz")


@pytest.mark.parametrize("number", range(len(ARRAYS.files) // 2))
def test_every_pixel_is_that_of_opencv(number):
    image, expected = ARRAYS[f"image.{number}"], ARRAYS[f"resized.{number}"]
    resized = resize_bilinear(torch.from_numpy(image).permute(2, 0, 1), expected.shape[:2])
    assert resized.dtype == torch.uint8
    assert (resized.permute(1, 2, 0).numpy() == expected).all()
    contiguous = torch.from_numpy(image).permute(2, 0, 1).contiguous()
    assert torch.equal(resize_bilinear(contiguous, expected.shape[:2]), resized)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 90), st.integers(1, 90), st.integers(0, 255))
def test_a_plain_image_stays_plain(height, width, new_height, new_width, value):
    image = torch.full((3, height, width), value, dtype=torch.uint8)
    assert (resize_bilinear(image, (new_height, new_width)) == value).all()


def test_one_channel_and_the_same_size():
    image = torch.randint(256, (1, 17, 23), dtype=torch.uint8)
    assert torch.equal(resize_bilinear(image, (17, 23)), image)


def test_sizes_fit_the_scale():
    assert fit_size((480, 640), (1333, 800)) == (800, 1067)
    assert fit_size((640, 480), (800, 1333)) == (1067, 800)
    assert fit_size((100, 1000), (1333, 800)) == (133, 1333)
    assert fit_size((1, 3000), (1333, 800)) == (1, 1333)
