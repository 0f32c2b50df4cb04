"""The box coder."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from piip.tasks.detection.mask_rcnn.box_coder import BoxCoder

position, side = st.floats(-100, 2000, width=32), st.floats(1, 1500, width=32)
STDS = [(1, 1, 1, 1), (0.1, 0.1, 0.2, 0.2)]


def box(x: float, y: float, width: float, height: float) -> torch.Tensor:
    return torch.tensor([x, y, x + width, y + height])


@pytest.mark.parametrize("stds", STDS)
@given(st.builds(box, position, position, side, side), st.builds(box, position, position, side, side))
@settings(deadline=None)
def test_round_trip(stds, start: torch.Tensor, target: torch.Tensor) -> None:
    coder = BoxCoder(stds=stds)
    start_size, target_size = start[2:] - start[:2], target[2:] - target[:2]
    assume(((target_size / start_size).log().abs() < math.log(1000 / 16)).all())
    decoded = coder.decode(start, coder.encode(start, target))
    torch.testing.assert_close(decoded, target, rtol=1e-4, atol=5e-3)


@pytest.mark.parametrize("stds", STDS)
def test_no_change_is_zero(stds) -> None:
    coder, boxes = BoxCoder(stds=stds), torch.tensor([[1.0, 2, 30, 40], [0, 0, 1, 1]])
    assert not coder.encode(boxes, boxes).any()
    torch.testing.assert_close(coder.decode(boxes, torch.zeros(2, 4)), boxes)


def test_units() -> None:
    coder, boxes = BoxCoder(stds=(0.1, 0.1, 0.2, 0.2)), torch.tensor([[0.0, 0, 10, 20]])
    moved = coder.decode(boxes, torch.tensor([[1.0, -1, 5 * math.log(2), 0]]))
    torch.testing.assert_close(moved, torch.tensor([[-4.0, -2, 16, 18]]))


def test_a_box_grows_no_more_than_62_5_times() -> None:
    grown = BoxCoder().decode(torch.tensor([[0.0, 0, 16, 16]]), torch.tensor([[0.0, 0, 100, -100]]))
    torch.testing.assert_close(grown[0, 2] - grown[0, 0], torch.tensor(1000.0))
    torch.testing.assert_close(grown[0, 3] - grown[0, 1], torch.tensor(0.256))


def test_works_in_float32_whatever_comes_in() -> None:
    boxes = torch.tensor([[1000.0, 1000, 1010, 1010]])
    decoded = BoxCoder().decode(boxes, torch.zeros(1, 4, dtype=torch.bfloat16))
    assert decoded.dtype == torch.float32
    assert torch.equal(decoded, boxes)


def test_deviations_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"box_coder\.stds: expected positive numbers"):
        BoxCoder(stds=(1, 1, 0, 1))
