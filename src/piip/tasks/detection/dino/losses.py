"""What DINO learns from: focal, L1 and GIoU losses of every layer."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_convert, sigmoid_focal_loss

from piip.tasks.detection.boxes import generalized_iou
from piip.tasks.detection.counts import average_count
from piip.tasks.detection.dino.config import TermWeights
from piip.tasks.detection.dino.heads import Predictions
from piip.tasks.detection.dino.matching import FOCAL_ALPHA, FOCAL_GAMMA, Matches
from piip.tasks.detection.dino.objects import NO_OBJECT, Objects


class LayerLosses(NamedTuple):
    """The losses of each layer, (layers,) each."""

    cls: Tensor
    bbox: Tensor
    iou: Tensor

    def named(self, prefixes: Sequence[str]) -> dict[str, Tensor]:
        """The losses of a layer by the prefix for it, as `<prefix>loss_cls` and so on."""
        return {
            f"{prefix}loss_{term}": loss
            for term, losses in self._asdict().items()
            for prefix, loss in zip(prefixes, losses.unbind(), strict=True)
        }


def matching_losses(predictions: Predictions, objects: Objects, matches: Matches, weights: TermWeights) -> LayerLosses:
    """Compare the queries with the objects that they are matched to; the others are to find nothing.

    Args:
        predictions: (layers, B, queries, ...).
        objects: of the images.
        matches: of queries and objects.
        weights: of the losses. All are divided by the number of matches in a layer (see `average_count`).
    """
    logits, boxes = (part.flatten(1, 2) for part in predictions)
    labels = torch.full(logits.shape[:2], NO_OBJECT, device=logits.device)
    labels = labels.scatter(1, matches.queries, objects.labels.flatten()[matches.objects])
    matched = boxes.gather(1, matches.queries[..., None].expand(-1, -1, 4))
    distances, overlaps = _compare(matched, objects.boxes.flatten(0, 1)[matches.objects])
    count = average_count(matches.queries.shape[1], logits.device)
    return _weighted(_focal_losses(logits, labels), distances.sum(1), overlaps.sum(1), weights, count)


def denoising_losses(predictions: Predictions, objects: Objects, groups: int, weights: TermWeights) -> LayerLosses:
    """Compare the denoising queries with the objects that they were; the negative ones are to find nothing.

    Args:
        predictions: (layers, B, denoising queries, ...).
        objects: of the images.
        groups: of denoising queries.
        weights: of the losses. All are divided by the number of positive queries (see `average_count`).
    """
    shape = (groups, 2, objects.labels.shape[1])
    logits, boxes = (part.unflatten(2, shape) for part in predictions)  # (layers, B, groups, 2, N, ...)
    labels = torch.stack((objects.labels, torch.full_like(objects.labels, NO_OBJECT)), dim=1)[:, None]
    distances, overlaps = _compare(boxes[:, :, :, 0], objects.boxes[:, None])
    is_object = (objects.labels != NO_OBJECT)[:, None]
    distances, overlaps = ((loss * is_object).flatten(1).sum(1) for loss in (distances, overlaps))
    count = average_count(groups * objects.total, logits.device)
    return _weighted(_focal_losses(logits, labels), distances, overlaps, weights, count)


def _focal_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum of a layer's: (layers,). The labels broadcast against the logits (layers, ..., num_classes)."""
    classes = torch.arange(logits.shape[-1], device=logits.device)
    goals = (labels[..., None] == classes).to(logits.dtype).expand_as(logits)
    losses = sigmoid_focal_loss(logits, goals, FOCAL_ALPHA, FOCAL_GAMMA)
    return losses.flatten(1).sum(1)


def _compare(boxes: Tensor, goals: Tensor) -> tuple[Tensor, Tensor]:
    """L1 distance of boxes (..., 4), and what their generalised IoU lacks of 1."""
    corners, goal_corners = (box_convert(part, "cxcywh", "xyxy") for part in (boxes, goals))
    return (boxes - goals).abs().sum(-1), 1 - generalized_iou(corners, goal_corners)


def _weighted(cls: Tensor, bbox: Tensor, iou: Tensor, weights: TermWeights, count: Tensor) -> LayerLosses:
    return LayerLosses(
        cls=cls * weights.label / count, bbox=bbox * weights.distance / count, iou=iou * weights.overlap / count
    )
