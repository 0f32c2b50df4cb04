"""Regions of interest on a feature pyramid."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from piip.tasks.detection.mask_rcnn.roi_align import assign_levels, batch_boxes, pool_regions


@given(st.floats(0, 3000, width=32), st.floats(0, 3000, width=32), st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_level_is_that_of_the_equation(width: float, height: float, num_levels: int) -> None:
    level = assign_levels(torch.tensor([[5.0, 7.0, 5 + width, 7 + height]]), num_levels).item()
    assert 0 <= level < num_levels
    exact = math.log2(max(math.sqrt(width * height), 1e-30) / 56)
    if abs(exact - round(exact)) > 1e-3:
        assert level == min(max(math.floor(exact), 0), num_levels - 1)


@pytest.mark.parametrize(
    ("side", "level"), [(0, 0), (1, 0), (111.9, 0), (112, 1), (224, 2), (447, 2), (448, 3), (9999, 3)]
)
def test_levels_change_at_doubled_sides(side: float, level: int) -> None:
    assert assign_levels(torch.tensor([[0.0, 0, side, side]]), 4).tolist() == [level]


def test_each_region_comes_from_its_image_and_map() -> None:
    features = [torch.stack([torch.full((1, 32 // 2**level, 32 // 2**level), 10.0 * image + level) for image in (0, 1)])
                for level in range(2)]  # fmt: skip
    boxes = [torch.tensor([[8.0, 8, 40, 40], [2, 2, 122, 122]]), torch.tensor([[4.0, 4, 124, 124]])]
    pooled = pool_regions(features, (4, 8), batch_boxes(boxes), 7)
    assert pooled.shape == (3, 1, 7, 7)
    assert pooled.amax((1, 2, 3)).tolist() == pooled.amin((1, 2, 3)).tolist() == [0, 1, 11]


def test_linear_features_are_read_at_the_centres_of_the_cells() -> None:
    x = (torch.arange(64) + 0.5) * 4
    feature = x.expand(1, 1, 64, -1)
    pooled = pool_regions([feature], (4,), torch.tensor([[0.0, 32, 20, 102, 90]]), 7)
    torch.testing.assert_close(pooled[0, 0, 0], 32 + (torch.arange(7) + 0.5) * 10)


def test_no_regions() -> None:
    features = [torch.randn(2, 3, 8, 8, requires_grad=True), torch.randn(2, 3, 4, 4)]
    pooled = pool_regions(features, (4, 8), batch_boxes([torch.zeros(0, 4), torch.zeros(0, 4)]), 7)
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert not features[0].grad.any()


def test_half_precision_features_keep_their_type_and_the_corners_their_place() -> None:
    feature = torch.randn(1, 2, 64, 64, dtype=torch.bfloat16)
    regions = torch.tensor([[0.0, 200.3, 201.7, 210.2, 214.9]])
    pooled = pool_regions([feature], (4,), regions, 7)
    assert pooled.dtype == torch.bfloat16
    torch.testing.assert_close(pooled.float(), pool_regions([feature.float()], (4,), regions, 7), rtol=1e-2, atol=1e-2)
