"""Matching queries to objects, and the losses of the pairs."""

from itertools import permutations

import pytest
import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou, sigmoid_focal_loss

from piip.tasks.detection.boxes import generalized_iou
from piip.tasks.detection.dino import TermWeights
from piip.tasks.detection.dino.heads import Predictions
from piip.tasks.detection.dino.losses import denoising_losses, matching_losses
from piip.tasks.detection.dino.matching import match, match_costs
from piip.tasks.detection.dino.objects import Objects, gather_objects
from piip.tasks.detection.structures import Target

COSTS, WEIGHTS = TermWeights(label=2.0), TermWeights(label=1.0)
SIZES = torch.tensor([[160.0, 200.0], [100.0, 100.0]])


def boxes(*shape: int, generator: torch.Generator) -> Tensor:
    """Centres and sizes in units of the image."""
    return torch.rand((*shape, 4), generator=generator) * 0.5 + 0.05


def corners(cxcywh: Tensor) -> Tensor:
    return torch.cat((cxcywh[..., :2] - cxcywh[..., 2:] / 2, cxcywh[..., :2] + cxcywh[..., 2:] / 2), -1)


def scene(counts: tuple[int, int], queries: int, layers: int = 2) -> tuple[Predictions, Objects]:
    generator = torch.Generator().manual_seed(0)
    targets = [
        Target(corners(boxes(count, generator=generator)) * size.repeat(2), torch.arange(count) % 4)
        for count, size in zip(counts, SIZES, strict=True)
    ]
    logits = 2 * torch.randn((layers, 2, queries, 4), generator=generator)
    return Predictions(logits, boxes(layers, 2, queries, generator=generator)), gather_objects(targets, SIZES)


@pytest.mark.parametrize(("counts", "queries"), [((3, 2), 4), ((0, 2), 4), ((0, 0), 4), ((3, 1), 2)])
def test_pairs_are_the_cheapest(counts: tuple[int, int], queries: int) -> None:
    predictions, objects = scene(counts, queries)
    matches = match(predictions, objects, COSTS)
    costs = match_costs(predictions, objects, COSTS)
    matched = sum(min(count, queries) for count in counts)
    assert matches.queries.shape == matches.objects.shape == (2, matched)
    largest = max(counts)
    for layer, (own_queries, own_objects) in enumerate(zip(matches.queries, matches.objects, strict=True)):
        best = 0.0
        for image, count in enumerate(counts):
            own = costs[layer, image, :, :count]
            table = own if count <= queries else own.T
            choices = permutations(range(len(table)), table.shape[1])
            best += min(sum(table[row, column].item() for column, row in enumerate(rows)) for rows in choices)
        image, query = own_queries // queries, own_queries % queries
        assert torch.equal(image, own_objects // max(largest, 1))
        assert len(own_queries.unique()) == len(own_objects.unique()) == matched
        found = costs[layer, image, query, own_objects % max(largest, 1)] if matched else torch.zeros(0)
        assert found.sum().item() == pytest.approx(best, abs=1e-4)


def test_what_is_not_a_number_is_matched_somehow() -> None:
    predictions, objects = scene((3, 2), 4)
    predictions.logits[0, 0, 1] = torch.nan
    assert match(predictions, objects, COSTS).queries.shape == (2, 5)


def test_losses_of_the_pairs() -> None:
    predictions, objects = scene((3, 2), 4)
    matches = match(predictions, objects, COSTS)
    losses = matching_losses(predictions, objects, matches, WEIGHTS)
    for layer in range(2):
        labels, distance, overlap = torch.zeros(8, 4), 0.0, 0.0
        for query, number in zip(matches.queries[layer].tolist(), matches.objects[layer].tolist(), strict=True):
            goal, own = objects.boxes.flatten(0, 1)[number], predictions.boxes[layer].flatten(0, 1)[query]
            labels[query, objects.labels.flatten()[number]] = 1
            distance += (own - goal).abs().sum().item()
            overlap += 1 - generalized_box_iou(corners(own)[None], corners(goal)[None]).item()
        focal = sigmoid_focal_loss(predictions.logits[layer].flatten(0, 1), labels, reduction="sum").item()
        assert losses.cls[layer].item() == pytest.approx(focal / 5, rel=1e-5)
        assert losses.bbox[layer].item() == pytest.approx(5 * distance / 5, rel=1e-5)
        assert losses.iou[layer].item() == pytest.approx(2 * overlap / 5, rel=1e-5)


def test_denoising_losses_of_perfect_queries() -> None:
    """Where all positive queries are at their objects and sure of them, and the negative ones are of nothing."""
    _, objects = scene((3, 1), 4)
    groups = 2
    logits = torch.full((1, 2, groups, 2, 3, 4), -20.0)
    for image, label in ((0, 0), (0, 1), (0, 2), (1, 0)):
        logits[0, image, :, 0, label, label] = 20.0
    found = objects.boxes[None, :, None, None].expand(1, 2, groups, 2, 3, 4).clone()
    found[:, :, :, 1] = 0.3  # not compared
    losses = denoising_losses(Predictions(logits.flatten(2, 4), found.flatten(2, 4)), objects, groups, WEIGHTS)
    torch.testing.assert_close(torch.cat(losses), torch.zeros(3), rtol=0, atol=1e-6)
    shifted = found + torch.tensor([0.01, 0.0, 0.0, 0.0])
    losses = denoising_losses(Predictions(logits.flatten(2, 4), shifted.flatten(2, 4)), objects, groups, WEIGHTS)
    assert losses.bbox.item() == pytest.approx(5 * 0.01, rel=1e-4)


def test_generalized_iou_is_that_of_torchvision() -> None:
    generator = torch.Generator().manual_seed(0)
    own, others = (corners(boxes(count, generator=generator)) for count in (6, 4))
    expected = generalized_box_iou(own, others)
    torch.testing.assert_close(generalized_iou(own[:, None], others), expected)
    torch.testing.assert_close(generalized_iou(own[:4], others), expected[:4].diagonal())


def test_generalized_iou_of_boxes_without_extent() -> None:
    point = torch.tensor([0.3, 0.3, 0.3, 0.3], requires_grad=True)
    iou = generalized_iou(point, torch.tensor([[0.3, 0.3, 0.3, 0.3], [0.1, 0.1, 0.5, 0.5]]))
    assert iou[0].item() == 0
    assert iou.isfinite().all()
    iou.sum().backward()
    assert point.grad is not None
    assert point.grad.isfinite().all()


def test_objects_are_padded_and_in_units_of_their_image() -> None:
    nothing = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    one = Target(torch.tensor([[16.0, 20.0, 48.0, 100.0]]), torch.tensor([2]))
    objects = gather_objects([one, nothing], SIZES)
    assert objects.labels.tolist() == [[2], [-1]]
    torch.testing.assert_close(objects.boxes[0], torch.tensor([[0.2, 0.3, 0.2, 0.4]]))
    assert (objects.counts, objects.total) == ((1, 0), 1)
