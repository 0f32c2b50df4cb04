"""Anchors."""

import pytest
import torch

from piip.tasks.detection.mask_rcnn.anchors import AnchorConfig, within

CPU = torch.device("cpu")


def test_anchors_of_the_first_cell() -> None:
    (anchors,) = AnchorConfig().make([(1, 1)], [4], CPU)
    root = 2**0.5
    expected = [
        [-16 * root, -8 * root, 16 * root, 8 * root],
        [-16, -16, 16, 16],
        [-8 * root, -16 * root, 8 * root, 16 * root],
    ]
    torch.testing.assert_close(anchors, torch.tensor(expected))


def test_cells_are_in_rows_and_anchors_are_centred_on_their_corner() -> None:
    levels = AnchorConfig().make([(2, 3), (1, 2)], [8, 16], CPU)
    assert [len(level) for level in levels] == [18, 6]
    centres = (levels[0][:, :2] + levels[0][:, 2:]) / 2
    assert centres[::3].tolist() == [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8]]
    assert torch.equal(centres[::3], centres[1::3])
    sizes = levels[1][:, 2:] - levels[1][:, :2]
    torch.testing.assert_close(sizes.prod(-1), torch.full((6,), 128.0**2))
    torch.testing.assert_close(sizes[:, 1] / sizes[:, 0], torch.tensor([0.5, 1, 2]).repeat(2))


def test_scales_of_one_ratio_stand_together() -> None:
    config = AnchorConfig(scales=(1, 2), ratios=(1, 4))
    (anchors,) = config.make([(1, 1)], [16], CPU)
    assert (anchors[:, 2:] - anchors[:, :2]).tolist() == [[16, 16], [32, 32], [8, 32], [16, 64]]
    assert config.per_cell == 4


def test_within_takes_cells_that_begin_in_the_image() -> None:
    inside = within([(4, 4), (2, 2)], [8, 16], (17, 30), 3, CPU)
    fine, coarse = inside[:48].view(4, 4, 3), inside[48:].view(2, 2, 3)
    assert fine[:3].all()
    assert not fine[3].any()
    assert coarse.all()
    assert within([(4, 4)], [8], (64, 64), 1, CPU).all()


@pytest.mark.parametrize("field", ["scales", "ratios"])
@pytest.mark.parametrize("values", [(), (1, 0), (-1,)])
def test_anchors_without_extent_are_refused(field: str, values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=rf"anchors\.{field}: expected positive numbers"):
        AnchorConfig(**{field: values})
