"""The matcher, against the rule in plain words."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torchvision.ops import box_iou

from piip.tasks.detection.mask_rcnn import matching
from piip.tasks.detection.mask_rcnn.matching import BACKGROUND, IGNORED, MatcherConfig, overlaps

RPN = MatcherConfig(positive_iou=0.7, negative_iou=0.3, low_quality_iou=0.3)
BOXES = MatcherConfig(positive_iou=0.5, negative_iou=0.5, low_quality_iou=0.5)
PLAIN = MatcherConfig(positive_iou=0.5, negative_iou=0.4)

# Tenths, so that many overlaps tie and many are just a threshold.
tenths = hnp.arrays(int, st.tuples(st.integers(0, 5), st.integers(0, 12)), elements=st.integers(0, 10)).map(
    lambda values: torch.from_numpy(values).float() / 10
)


def match_one_by_one(config: MatcherConfig, ious: torch.Tensor) -> list[int]:
    objects, boxes = ious.shape
    matches = []
    for box in range(boxes):
        column = ious[:, box].tolist()
        best = max(column, default=0.0)
        if objects and best >= torch.tensor(config.positive_iou):
            matches.append(column.index(best))
        else:
            matches.append(BACKGROUND if best < torch.tensor(config.negative_iou) else IGNORED)
    if config.low_quality_iou is not None and boxes:
        for number, row in enumerate(ious):
            if row.max() >= config.low_quality_iou:
                for box in (row == row.max()).nonzero().flatten().tolist():
                    matches[box] = number
    return matches


@pytest.mark.parametrize("config", [RPN, BOXES, PLAIN])
@given(tenths)
@settings(max_examples=300, deadline=None)
def test_same_as_one_by_one(config: MatcherConfig, ious: torch.Tensor) -> None:
    expected = match_one_by_one(config, ious)
    for length in (1, 2, 3, 9):
        assert config.match(ious.split(length)).tolist() == expected


corners = hnp.arrays(int, st.tuples(st.integers(0, 9), st.just(4)), elements=st.integers(1, 6)).map(
    lambda sides: torch.from_numpy(np.concatenate((sides[:, :2], sides[:, :2] + sides[:, 2:]), axis=1)).float()
)


@given(corners, corners, st.integers(1, 30))
@settings(deadline=None)
def test_overlaps_come_in_blocks(objects: torch.Tensor, boxes: torch.Tensor, largest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_BLOCK", largest)
        blocks = list(overlaps(objects, boxes))
    assert torch.equal(torch.cat(blocks), box_iou(objects, boxes))
    assert all(block.numel() <= max(largest, len(boxes)) for block in blocks)
    assert torch.equal(RPN.match(blocks), RPN.match([box_iou(objects, boxes)]))


@given(tenths)
@settings(deadline=None)
def test_every_object_with_enough_overlap_gets_a_box_unless_a_later_one_takes_it(ious: torch.Tensor) -> None:
    matches = RPN.match([ious])
    objects, boxes = ious.shape
    assert matches.shape == (boxes,)
    assert ((matches >= IGNORED) & (matches < objects)).all()
    if objects and boxes and ious[-1].max() >= 0.3:
        assert (objects - 1) in matches.tolist()


def test_negative_overlaps_are_ignored() -> None:
    ious = torch.tensor([[-1.0, 0.0, 0.2, 0.8, -1.0]])
    assert RPN.match([ious]).tolist() == [IGNORED, BACKGROUND, BACKGROUND, 0, IGNORED]


def test_no_objects_leave_background() -> None:
    assert RPN.match([torch.zeros(0, 3)]).tolist() == [BACKGROUND] * 3
    with pytest.raises(ValueError, match="at least one block"):
        RPN.match([])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positive_iou": 0.3, "negative_iou": 0.5}, "negative_iou <= positive_iou"),
        ({"positive_iou": 1.5}, "positive_iou <= 1"),
        ({"low_quality_iou": 0.0}, r"matcher\.low_quality_iou: expected more than 0"),
    ],
)
def test_impossible_thresholds_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MatcherConfig(**changes)
