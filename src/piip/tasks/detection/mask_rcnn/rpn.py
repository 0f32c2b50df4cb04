"""The region proposal network (Faster R-CNN, arXiv 1506.01497, section 3.1) on a feature pyramid."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from piip.batches import Size
from piip.config import check_fields
from piip.tasks.detection.boxes import batched_nms, larger_than
from piip.tasks.detection.counts import average_count
from piip.tasks.detection.mask_rcnn.anchors import AnchorConfig, within
from piip.tasks.detection.mask_rcnn.box_coder import BoxCoder
from piip.tasks.detection.mask_rcnn.matching import IGNORED, MatcherConfig, overlaps
from piip.tasks.detection.mask_rcnn.sampling import SamplerConfig
from piip.tasks.detection.structures import Target


@dataclass(frozen=True, kw_only=True)
class ProposalConfig:
    """How many of the boxes of a region proposal network become proposals.

    Attributes:
        per_level: boxes of each map that take part, best first.
        count: proposals of an image, at most.
        nms_iou: a box goes when it overlaps a better one of its map by more than this.
        min_size: a box goes unless it is wider and higher than this, in pixels.
    """

    per_level: int = 1000
    count: int = 1000
    nms_iou: float = 0.7
    min_size: float = 0.0

    def __post_init__(self) -> None:
        """Refuse to propose nothing."""
        check_fields(self, "proposals.")
        for name, number in (("per_level", self.per_level), ("count", self.count)):
            if number < 1:
                raise ValueError(f"proposals.{name}: expected at least 1, got {number}")
        if not 0 <= self.nms_iou <= 1:
            raise ValueError(f"proposals.nms_iou: expected a number from 0 to 1, got {self.nms_iou}")
        if self.min_size < 0:
            raise ValueError(f"proposals.min_size: expected 0 or more, got {self.min_size}")


@dataclass(frozen=True, kw_only=True)
class RPNConfig:
    """A region proposal network.

    Attributes:
        anchors: the boxes that it starts from.
        box_coder: how it tells where the object is from there.
        matcher: which anchors are to find an object.
        sampler: how many anchors of an image are learned from.
        training_proposals: what goes on to the heads in training.
        proposals: what goes on to them in evaluation.
    """

    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    box_coder: BoxCoder = field(default_factory=BoxCoder)
    matcher: MatcherConfig = field(
        default_factory=lambda: MatcherConfig(positive_iou=0.7, negative_iou=0.3, low_quality_iou=0.3)
    )
    sampler: SamplerConfig = field(default_factory=lambda: SamplerConfig(count=256, positive_fraction=0.5))
    training_proposals: ProposalConfig = field(default_factory=lambda: ProposalConfig(per_level=2000))
    proposals: ProposalConfig = field(default_factory=ProposalConfig)

    def __post_init__(self) -> None:
        """Refuse values of other types."""
        check_fields(self, "rpn.")

    def build(self, channels: int, strides: Sequence[int]) -> "RPN":
        """The network on maps of these channels and strides."""
        return RPN(self, channels, strides)


class RPNMaps(NamedTuple):
    """What the network says of each anchor, map by map: logits (B, A, H, W) and deltas (B, 4A, H, W)."""

    objectness: tuple[Tensor, ...]
    deltas: tuple[Tensor, ...]


class Proposals(NamedTuple):
    """Where the objects of one image may be, best first: boxes (N, 4) and scores (N,)."""

    boxes: Tensor
    scores: Tensor


class RPN(nn.Module):
    """Says of each anchor whether it is on an object, and where the object is from there."""

    def __init__(self, config: RPNConfig, channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        self.strides = tuple(strides)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, config.anchors.per_cell, 1)
        self.deltas = nn.Conv2d(channels, 4 * config.anchors.per_cell, 1)
        for conv in (self.conv, self.objectness, self.deltas):
            nn.init.normal_(conv.weight, std=0.01)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def forward(self, features: Sequence[Tensor]) -> RPNMaps:
        """Look at the maps (B, C, H, W), finest first."""
        hidden = [F.relu(self.conv(feature)) for feature in features]
        return RPNMaps(tuple(map(self.objectness, hidden)), tuple(map(self.deltas, hidden)))

    def anchors(self, maps: RPNMaps) -> list[Tensor]:
        """The anchors of each map, (H * W * A, 4), in the order of `flatten`."""
        return self.config.anchors.make(_shapes(maps), self.strides, maps.objectness[0].device)

    @torch.no_grad()
    def propose(self, maps: RPNMaps, sizes: Sequence[Size], config: ProposalConfig) -> list[Proposals]:
        """Turn the best anchors of each image into proposals.

        Args:
            maps: of `forward`.
            sizes: of the images without padding; proposals are clipped to them.
            config: how many.
        """
        scores, boxes, levels = [], [], []
        objectness, deltas = flatten(maps.objectness, 1), flatten(maps.deltas, 4)
        for level, anchors in enumerate(self.anchors(maps)):
            # A stable sort of the scores, not `topk` of the logits: equal scores stay in the order of the anchors.
            ranked, order = objectness[level].squeeze(-1).sigmoid().sort(dim=1, descending=True, stable=True)
            scores.append(ranked[:, : config.per_level])
            order = order[:, : config.per_level, None].expand(-1, -1, 4)
            best_anchors = anchors.expand(len(order), -1, -1).gather(1, order)
            boxes.append(self.config.box_coder.decode(best_anchors, deltas[level].gather(1, order)))
            levels.append(torch.full_like(order[0, :, 0], level))
        groups = torch.cat(levels)
        images = zip(torch.cat(boxes, 1), torch.cat(scores, 1), sizes, strict=True)
        return [_select(clip_boxes_to_image(box, size), score, groups, config) for box, score, size in images]

    def loss(self, maps: RPNMaps, targets: Sequence[Target], padded_sizes: Sequence[Size] | None) -> dict[str, Tensor]:
        """Compare the maps with where the objects are.

        Args:
            maps: of `forward`.
            targets: objects of each image, with boxes that are not empty.
            padded_sizes: the part of each image whose anchors are learned from; None for the whole of all images.

        Returns:
            `loss_rpn_cls` and `loss_rpn_bbox`, sums over the maps, by the number of anchors learned from (see
            `average_count`).
        """
        anchors = torch.cat(self.anchors(maps))
        objectness = torch.cat(flatten(maps.objectness, 1), 1).squeeze(-1)
        deltas = torch.cat(flatten(maps.deltas, 4), 1)
        classification, regression, count = [], [], 0
        for image, target in enumerate(targets):
            matches = self._match(anchors, target.boxes, maps, padded_sizes[image] if padded_sizes else None)
            positives, negatives = self.config.sampler.sample(matches)
            logits = objectness[image, torch.cat((positives, negatives))]
            is_object = (torch.arange(len(logits), device=logits.device) < len(positives)).to(logits.dtype)
            classification.append(F.binary_cross_entropy_with_logits(logits, is_object, reduction="sum"))
            goals = self.config.box_coder.encode(anchors[positives], target.boxes[matches[positives]])
            regression.append(F.l1_loss(deltas[image, positives], goals, reduction="sum"))
            count += max(len(positives), 1) + max(len(negatives), 1)
        average = average_count(count, anchors.device)
        return {
            "loss_rpn_cls": torch.stack(classification).sum() / average,
            "loss_rpn_bbox": torch.stack(regression).sum() / average,
        }

    def _match(self, anchors: Tensor, boxes: Tensor, maps: RPNMaps, size: Size | None) -> Tensor:
        ious = overlaps(boxes, anchors)
        if size is None:
            return self.config.matcher.match(ious)
        outside = ~within(_shapes(maps), self.strides, size, self.config.anchors.per_cell, anchors.device)
        inside = (block.masked_fill_(outside, -1) for block in ious)
        return self.config.matcher.match(inside).masked_fill_(outside, IGNORED)


def flatten(maps: Sequence[Tensor], width: int) -> list[Tensor]:
    """Maps (B, A * width, H, W) as (B, H * W * A, width) in float32, in the order of the anchors."""
    return [one.permute(0, 2, 3, 1).reshape(len(one), -1, width).float() for one in maps]


def _shapes(maps: RPNMaps) -> list[Size]:
    return [(one.shape[-2], one.shape[-1]) for one in maps.objectness]


def _select(boxes: Tensor, scores: Tensor, groups: Tensor, config: ProposalConfig) -> Proposals:
    large = larger_than(boxes, config.min_size).nonzero().squeeze(1)
    boxes, scores, groups = boxes[large], scores[large], groups[large]
    kept = batched_nms(boxes, scores, groups, config.nms_iou)[: config.count]
    return Proposals(boxes[kept], scores[kept])
