"""The image of each branch: the official sizes and values wherever the official code is right."""

import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from piip.pyramid.resize import resize_in_proportion
from tiny_models import images


def our_size(side: int, small: int, large: int) -> int:
    batch = torch.empty(0, 1, side, side)  # of no image, so that it costs nothing
    return resize_in_proportion(batch, Fraction(small, large)).shape[-1]


def official_size(side: int, small: int, large: int) -> int:
    """What `F.interpolate(scale_factor=small / large)` makes of a side."""
    return math.floor(float(side) * (small / large))


@pytest.mark.parametrize("patch", [14, 16])
def test_every_pair_of_sizes(patch: int) -> None:
    """All branches see exactly the size they are made for; officially a few are a pixel short."""
    pairs = [(small, large) for large in range(patch, 2049, patch) for small in range(patch, large, patch)]
    official = [official_size(large, small, large) for small, large in pairs]
    assert all(our_size(large, small, large) == small for small, large in pairs)
    assert all(size in (small, small - 1) for size, (small, _) in zip(official, pairs, strict=True))
    if patch == 16:
        short = sum(size < small for size, (small, _) in zip(official, pairs, strict=True))
        assert (short, len(pairs)) == (235, 8128)  # as counted in the official code


@pytest.mark.parametrize(
    ("small", "large"),
    [(208, 368), (240, 352), (512, 784), (1024, 1568), (192, 368), (128, 368), (160, 320), (96, 320), (192, 384)],
)
def test_sizes_of_configurations(small: int, large: int) -> None:
    assert our_size(large, small, large) == small


@given(st.integers(1, 2048), st.integers(1, 146), st.integers(1, 146), st.sampled_from([14, 16]))
def test_sizes_of_any_image(side: int, first: int, second: int, patch: int) -> None:
    small, large = sorted((first * patch, second * patch))
    expected = side * small // large
    if expected == 0:
        with pytest.raises(ValueError, match="pixels are too few to be resized"):
            our_size(side, small, large)
        return
    assert our_size(side, small, large) == expected
    assert official_size(side, small, large) in (expected, expected - 1)


@pytest.mark.parametrize(
    ("height", "width", "small", "large"),
    [(48, 48, 32, 48), (48, 80, 32, 48), (50, 37, 32, 48), (96, 64, 16, 96), (112, 112, 98, 112), (46, 23, 128, 368)],
)
def test_values_are_the_official_ones(height: int, width: int, small: int, large: int) -> None:
    batch = images(2, 3, height, width)
    expected = F.interpolate(batch, scale_factor=small / large, mode="bilinear", align_corners=False)
    assert torch.equal(resize_in_proportion(batch, Fraction(small, large)), expected)


def test_values_where_the_official_size_is_short() -> None:
    batch = images(1, 3, 368, 368)
    resized = resize_in_proportion(batch, Fraction(208, 368))
    official = F.interpolate(batch, scale_factor=208 / 368, mode="bilinear", align_corners=False)
    assert official.shape[-2:] == (207, 207)
    assert torch.equal(resized[..., :207, :207], official)
    exact = F.interpolate(batch, size=(208, 208), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resized, exact, atol=1e-4, rtol=0)


def test_gradients_and_the_image_itself() -> None:
    batch = images(1, 3, 12, 12).requires_grad_()
    assert resize_in_proportion(batch, Fraction(1)) is batch
    resize_in_proportion(batch, Fraction(1, 2)).sum().backward()
    torch.testing.assert_close(batch.grad, torch.full_like(batch, 0.25))


def test_enlarging() -> None:
    batch = images(1, 3, 20, 30)
    expected = F.interpolate(batch, scale_factor=2, mode="bilinear", align_corners=False)
    assert torch.equal(resize_in_proportion(batch, Fraction(2)), expected)
