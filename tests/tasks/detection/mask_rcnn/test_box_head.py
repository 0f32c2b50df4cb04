"""The box head: what it learns from, and what it detects."""

import math

import pytest
import torch

from piip.tasks.detection.mask_rcnn.box_head import BoxHead, BoxHeadConfig, BoxOutputs
from piip.tasks.detection.mask_rcnn.sampling import SamplerConfig
from tiny_detector import target

CLASSES = 3


def box_head(**changes) -> BoxHead:
    return BoxHeadConfig(hidden_dim=8, pool_size=2, **changes).build(4, CLASSES)


def test_objects_are_proposals_too() -> None:
    goal = target((10, 10, 50, 50), (60, 60, 61, 61), labels=(2, 1))
    proposals = torch.tensor([[12.0, 10, 50, 50], [0, 0, 5, 5], [60, 60, 100, 100]])
    samples = box_head().sample(proposals, goal)
    assert sorted(samples.objects.tolist()) == [0, 0, 1]
    assert sorted(samples.labels.tolist()) == [1, 2, 2, CLASSES, CLASSES]
    assert torch.equal(samples.goals, goal.boxes[samples.objects])
    assert torch.equal(samples.positive_labels, goal.labels[samples.objects])
    assert {tuple(box) for box in samples.boxes.tolist()} == {
        tuple(box) for box in [*goal.boxes.tolist(), *proposals.tolist()]
    }


def test_a_quarter_at_most_are_positives() -> None:
    proposals = torch.tensor([[10.0, 10, 50, 50]]).repeat(30, 1)
    samples = box_head(sampler=SamplerConfig(count=16, positive_fraction=0.25)).sample(
        proposals, target((10, 10, 50, 50))
    )
    assert len(samples.objects) == 4
    assert len(samples.labels) == 4  # no background to fill up with


def test_no_objects_and_no_proposals() -> None:
    head = box_head()
    samples = head.sample(torch.zeros(0, 4), target())
    assert len(samples.labels) == 0
    outputs = head(torch.zeros(0, 4, 2, 2))
    assert outputs.deltas.shape == (0, CLASSES, 4)
    losses = head.loss(outputs, [samples])
    assert losses["loss_cls"] == losses["loss_bbox"] == 0
    sum(losses.values()).backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in head.parameters())


def test_losses_by_hand() -> None:
    head = box_head()
    samples = [head.sample(torch.tensor([[80.0, 80, 90, 90]]), target((10, 10, 50, 50), labels=(1,))) for _ in range(2)]
    logits = torch.tensor([[0.0, 1, 0, 0], [0, 0, 0, 2]] * 2)
    deltas = torch.zeros(4, CLASSES, 4)
    deltas[0, 1] = torch.tensor([1.0, -2, 0, 0.5])  # the class of the object counts
    deltas[0, 0] = deltas[1] = 99  # other classes and background do not
    losses = head.loss(BoxOutputs(logits, deltas), samples)
    expected = (math.log(math.e + 3) - 1 + math.log(math.e**2 + 3) - 2) / 2
    torch.testing.assert_close(losses["loss_cls"], torch.tensor(expected))
    torch.testing.assert_close(losses["loss_bbox"], torch.tensor(3.5 / 4))


def detect(head: BoxHead, logits: torch.Tensor, proposals: torch.Tensor, factors: tuple[float, ...] = (1, 1, 1, 1)):
    outputs = BoxOutputs(logits, torch.zeros(len(proposals), CLASSES, 4))
    return head.detect(outputs, proposals, (100, 120), torch.tensor(factors))


def test_detections_are_by_class_in_original_coordinates() -> None:
    proposals = torch.tensor([[10.0, 10, 50, 50], [11, 10, 50, 50], [80, 80, 130, 130]])
    logits = torch.tensor([[9.0, 0, 0, 0], [8, 9, 0, 0], [0, 0, 9, 0]])
    found = detect(box_head(), logits, proposals, (2.0, 4.0, 2.0, 4.0))
    assert len(found.labels) == 3  # the second proposal is of class 0 as well, but less so than the first
    assert dict(zip(found.labels.tolist(), found.boxes.tolist(), strict=True)) == {
        0: [5, 2.5, 25, 12.5],
        1: [5.5, 2.5, 25, 12.5],
        2: [40, 20, 60, 25],
    }
    assert torch.equal(found.scores, found.scores.sort(descending=True).values)


def test_threshold_is_strict_and_number_is_limited() -> None:
    proposals = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]])
    logits = torch.zeros(3, CLASSES + 1)
    assert len(detect(box_head(score_threshold=0.25), logits, proposals).scores) == 0
    assert len(detect(box_head(score_threshold=0.24), logits, proposals).scores) == 9
    assert len(detect(box_head(score_threshold=0.24, max_detections=5), logits, proposals).scores) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_dim": 0}, r"box_head\.hidden_dim"),
        ({"pool_size": 0}, r"box_head\.pool_size"),
        ({"max_detections": 0}, r"box_head\.max_detections"),
        ({"score_threshold": 1.0}, r"box_head\.score_threshold"),
        ({"nms_iou": -0.1}, r"box_head\.nms_iou"),
    ],
)
def test_impossible_settings_are_refused(changes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BoxHeadConfig(**changes)
