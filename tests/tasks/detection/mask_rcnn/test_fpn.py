"""The feature pyramid network."""

import pytest
import torch

from piip.tasks.detection.mask_rcnn.fpn import FPNConfig
from tiny_models import images


def test_shapes_and_strides() -> None:
    config = FPNConfig(channels=16, num_levels=5)
    features = [images(2, 4 * (level + 1), 32 // 2**level, 40 // 2**level) for level in range(4)]
    maps = config.build([4, 8, 12, 16])(features)
    assert [tuple(one.shape) for one in maps] == [
        (2, 16, 32, 40),
        (2, 16, 16, 20),
        (2, 16, 8, 10),
        (2, 16, 4, 5),
        (2, 16, 2, 3),
    ]
    assert torch.equal(maps[4], maps[3][..., ::2, ::2])
    assert config.strides((4, 8, 16, 32)) == (4, 8, 16, 32, 64)


def test_coarse_maps_flow_down_and_not_up() -> None:
    fpn = FPNConfig(channels=8, num_levels=3).build([4, 4, 4]).eval()
    features = [images(1, 4, 16, 16), images(1, 4, 9, 9), images(1, 4, 5, 5)]  # odd sizes: resized to the finer map
    with torch.no_grad():
        before = fpn(features)
        for changed in range(3):
            after = fpn([f + (level == changed) for level, f in enumerate(features)])
            assert [not torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [
                level <= changed for level in range(3)
            ]


@pytest.mark.parametrize("channels", [[], [4] * 6])
def test_number_of_maps(channels: list[int]) -> None:
    with pytest.raises(ValueError, match=rf"fpn\.num_levels: 5, but the backbone gives {len(channels)} maps"):
        FPNConfig().build(channels)
