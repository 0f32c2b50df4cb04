"""Which query is to find which object: the cheapest pairs (DETR, arXiv 2005.12872, section 3.1)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.ops import box_convert

from piip.tasks.detection.boxes import generalized_iou
from piip.tasks.detection.dino.config import TermWeights
from piip.tasks.detection.dino.heads import Predictions
from piip.tasks.detection.dino.objects import Objects

FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 2.0

_TINY = 1e-12


class Matches(NamedTuple):
    """Pairs of a query and an object, as many in each layer.

    Attributes:
        queries: (layers, K), numbers among those of all images.
        objects: (layers, K), likewise.
    """

    queries: Tensor
    objects: Tensor


@torch.no_grad()
def match(predictions: Predictions, objects: Objects, weights: TermWeights) -> Matches:
    """Match the queries of each layer and image to its objects.

    Waits for the device once, for the costs of all layers and images together.

    Args:
        predictions: (layers, B, queries, ...).
        objects: of the images; where there are more of them than queries, some get none.
        weights: of the costs.
    """
    costs = match_costs(predictions, objects, weights).cpu().numpy()
    queries, largest = costs.shape[2:]
    found = _assign(costs, objects.counts)
    offsets = np.arange(len(objects.counts))[:, None, None] * [[queries], [largest]]  # (B, 2, 1)
    pairs = [np.concatenate([own + offset for own, offset in zip(layer, offsets, strict=True)], 1) for layer in found]
    numbers = torch.from_numpy(np.stack(pairs)).to(objects.labels.device, non_blocking=True)
    return Matches(numbers[:, 0], numbers[:, 1])


def match_costs(predictions: Predictions, objects: Objects, weights: TermWeights) -> Tensor:
    """What it costs to match each query to each object: (layers, B, queries, N); 0 where that is not known.

    What is not a number would stop the matching here. So the losses are not numbers, and training says what to do.
    """
    labels = objects.labels.clamp(min=0)[None, :, None]
    logits = predictions.logits
    scores = logits.gather(-1, labels.expand(len(logits), -1, logits.shape[2], -1)).sigmoid()
    as_object = -(scores + _TINY).log() * FOCAL_ALPHA * (1 - scores) ** FOCAL_GAMMA
    as_none = -(1 - scores + _TINY).log() * (1 - FOCAL_ALPHA) * scores**FOCAL_GAMMA
    distances = torch.cdist(predictions.boxes, objects.boxes[None].expand(len(logits), -1, -1, -1), p=1)
    corners, goals = (box_convert(boxes, "cxcywh", "xyxy") for boxes in (predictions.boxes, objects.boxes))
    overlaps = generalized_iou(corners[..., None, :], goals[:, None])
    costs = weights.label * (as_object - as_none) + weights.distance * distances - weights.overlap * overlaps
    return costs.nan_to_num()


def _assign(costs: npt.NDArray[np.float32], counts: Sequence[int]) -> list[list[npt.NDArray[np.int64]]]:
    """Pairs (2, K) of query and object, for each layer and image."""
    from scipy.optimize import linear_sum_assignment  # here: it takes long to import, and only training needs it

    return [
        [np.stack(linear_sum_assignment(own[:, :count])) for own, count in zip(layer, counts, strict=True)]
        for layer in costs
    ]
