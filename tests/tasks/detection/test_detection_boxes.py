"""Operations on boxes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import nms

from piip.tasks.detection import boxes as boxes_module
from piip.tasks.detection.boxes import batched_nms, larger_than, resize_factors


def random_boxes(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand((count, 4), generator=generator) * 64
    boxes[:, 2:] += boxes[:, :2]
    return boxes.round()  # in whole pixels: no overlap is near the threshold, so that rounding decides nothing


@pytest.mark.parametrize("many", [10_000, 10])
@given(st.integers(0, 200), st.integers(1, 5), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_groups_are_suppressed_on_their_own(many: int, count: int, num_groups: int, seed: int) -> None:
    boxes, scores = random_boxes(count, seed), torch.rand(count, generator=torch.Generator().manual_seed(seed))
    groups = torch.randint(num_groups, (count,), generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes_module, "_MANY", many)
        kept = batched_nms(boxes, scores, groups, 0.51)

    expected = set()
    for group in range(num_groups):
        members = (groups == group).nonzero().squeeze(1)
        expected |= set(members[nms(boxes[members], scores[members], 0.51)].tolist())
    assert set(kept.tolist()) == expected
    assert torch.equal(scores[kept], scores[kept].sort(descending=True).values)


def test_equal_to_the_threshold_stays() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 5.1]])  # IoU 0.5 and 0.51 with the first
    kept = batched_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64), 0.5)
    assert kept.tolist() == [0, 1]


def test_boxes_of_other_groups_do_not_suppress_even_outside_of_the_image() -> None:
    boxes = torch.tensor([[-30.0, -30, 10, 10], [-30, -30, 10, 10]])
    assert len(batched_nms(boxes, torch.ones(2), torch.tensor([0, 1]), 0.5)) == 2


def test_larger_than_is_strict() -> None:
    boxes = torch.tensor([[0.0, 0, 0, 5], [0, 0, 5, 0], [0, 0, 1, 1], [0, 0, 1, 2], [5, 5, 3, 8]])
    assert larger_than(boxes, 0).tolist() == [False, False, True, True, False]
    assert larger_than(boxes, 1).tolist() == [False] * 5


def test_resize_factors_are_those_of_each_axis() -> None:
    factors = resize_factors((300, 417), (288, 400), torch.device("cpu"))
    assert factors.tolist() == [0.9592326283454895, 0.9599999785423279] * 2  # what the official code stores
