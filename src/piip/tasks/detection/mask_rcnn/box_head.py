"""The box head of Faster R-CNN: what is in a proposal, and where exactly."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from piip.batches import Size
from piip.config import check_fields
from piip.tasks.detection.boxes import batched_nms
from piip.tasks.detection.counts import average_count
from piip.tasks.detection.mask_rcnn.box_coder import BoxCoder
from piip.tasks.detection.mask_rcnn.matching import MatcherConfig, overlaps
from piip.tasks.detection.mask_rcnn.sampling import SamplerConfig
from piip.tasks.detection.structures import Target


@dataclass(frozen=True, kw_only=True)
class BoxHeadConfig:
    """Two fully connected layers on each proposal, a classifier and a regressor for each class.

    Attributes:
        hidden_dim: width of the layers.
        pool_size: cells along the sides of a proposal's features.
        box_coder: how the head tells where the object is from the proposal.
        matcher: which proposals are to find an object.
        sampler: how many proposals of an image are learned from.
        score_threshold: what scores no more than this is no detection.
        nms_iou: a detection goes when it overlaps a better one of its class by more than this.
        max_detections: of an image.
    """

    hidden_dim: int = 1024
    pool_size: int = 7
    box_coder: BoxCoder = field(default_factory=lambda: BoxCoder(stds=(0.1, 0.1, 0.2, 0.2)))
    matcher: MatcherConfig = field(default_factory=lambda: MatcherConfig(low_quality_iou=0.5))
    sampler: SamplerConfig = field(default_factory=lambda: SamplerConfig(count=512, positive_fraction=0.25))
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100

    def __post_init__(self) -> None:
        """Refuse a head without extent, and thresholds that nothing can pass."""
        check_fields(self, "box_head.")
        for name in ("hidden_dim", "pool_size", "max_detections"):
            if getattr(self, name) < 1:
                raise ValueError(f"box_head.{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 <= self.score_threshold < 1:
            raise ValueError(f"box_head.score_threshold: expected from 0 to less than 1, got {self.score_threshold}")
        if not 0 <= self.nms_iou <= 1:
            raise ValueError(f"box_head.nms_iou: expected a number from 0 to 1, got {self.nms_iou}")

    def build(self, channels: int, num_classes: int) -> "BoxHead":
        """The head on features of this width."""
        return BoxHead(self, channels, num_classes)


class BoxOutputs(NamedTuple):
    """What the head says of each proposal: logits (N, num_classes + 1), background last; deltas (N, num_classes, 4)."""

    logits: Tensor
    deltas: Tensor


class ProposalSamples(NamedTuple):
    """The proposals of one image that are learned from; the P of them that match an object come first.

    Attributes:
        boxes: (N, 4).
        labels: (N,), the class of the object, num_classes for background.
        objects: (P,), indices of the matched objects.
        goals: (P, 4), boxes of the matched objects.
    """

    boxes: Tensor
    labels: Tensor
    objects: Tensor
    goals: Tensor

    @property
    def positive_boxes(self) -> Tensor:
        """(P, 4)."""
        return self.boxes[: len(self.objects)]

    @property
    def positive_labels(self) -> Tensor:
        """(P,)."""
        return self.labels[: len(self.objects)]


class ScoredBoxes(NamedTuple):
    """The detections of one image, best first: boxes (N, 4), scores (N,) and labels (N,)."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class BoxHead(nn.Module):
    """Classifies proposals, and moves their boxes to where an object of each class would be."""

    def __init__(self, config: BoxHeadConfig, channels: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.fc1 = nn.Linear(channels * config.pool_size**2, config.hidden_dim)
        self.fc2 = nn.Linear(config.hidden_dim, config.hidden_dim)
        self.classifier = nn.Linear(config.hidden_dim, num_classes + 1)
        self.regressor = nn.Linear(config.hidden_dim, num_classes * 4)
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.normal_(self.regressor.weight, std=0.001)
        for layer in (self.fc1, self.fc2, self.classifier, self.regressor):
            nn.init.zeros_(layer.bias)

    def forward(self, regions: Tensor) -> BoxOutputs:
        """Look at the features of proposals, (N, channels, pool_size, pool_size)."""
        hidden = F.relu(self.fc2(F.relu(self.fc1(regions.flatten(1)))))
        return BoxOutputs(self.classifier(hidden), self.regressor(hidden).unflatten(-1, (-1, 4)))

    @torch.no_grad()
    def sample(self, proposals: Tensor, target: Target) -> ProposalSamples:
        """Choose the proposals of one image that are learned from; its objects' own boxes count as proposals too.

        Args:
            proposals: (N, 4).
            target: with boxes that are not empty.
        """
        own = torch.arange(len(target.boxes), device=proposals.device)
        matches = torch.cat((own, self.config.matcher.match(overlaps(target.boxes, proposals))))
        boxes = torch.cat((target.boxes, proposals))
        positives, negatives = self.config.sampler.sample(matches)
        objects = matches[positives]
        background = torch.full_like(negatives, self.num_classes)
        return ProposalSamples(
            boxes=boxes[torch.cat((positives, negatives))],
            labels=torch.cat((target.labels[objects], background)),
            objects=objects,
            goals=target.boxes[objects],
        )

    def loss(self, outputs: BoxOutputs, samples: Sequence[ProposalSamples]) -> dict[str, Tensor]:
        """Compare what the head says with the objects.

        Args:
            outputs: for the samples of all images, one image after the other.
            samples: of each image.

        Returns:
            `loss_cls` and `loss_bbox`, both by the number of samples (see `average_count`).
        """
        labels = torch.cat([own.labels for own in samples])
        classification = F.cross_entropy(outputs.logits.float(), labels, reduction="sum")
        deltas = outputs.deltas.float().split([len(own.labels) for own in samples])
        regression = [self._regression_loss(*pair) for pair in zip(deltas, samples, strict=True)]
        count = average_count(len(labels), labels.device)
        return {"loss_cls": classification / count, "loss_bbox": torch.stack(regression).sum() / count}

    def _regression_loss(self, deltas: Tensor, samples: ProposalSamples) -> Tensor:
        labels = samples.positive_labels
        own = deltas[torch.arange(len(labels), device=labels.device), labels]
        goals = self.config.box_coder.encode(samples.positive_boxes, samples.goals)
        return F.l1_loss(own, goals, reduction="sum")

    def detect(self, outputs: BoxOutputs, proposals: Tensor, size: Size, factors: Tensor) -> ScoredBoxes:
        """Choose the detections of one image.

        Args:
            outputs: for its proposals.
            proposals: (N, 4).
            size: of the image without padding, to which boxes are clipped.
            factors: (4,), what the boxes are divided by then, to be those of the original image.
        """
        scores = outputs.logits.float().softmax(-1)[:, :-1]
        rows, labels = (scores > self.config.score_threshold).nonzero(as_tuple=True)
        boxes = self.config.box_coder.decode(proposals[rows], outputs.deltas[rows, labels])
        boxes, scores = clip_boxes_to_image(boxes, size) / factors, scores[rows, labels]
        kept = batched_nms(boxes, scores, labels, self.config.nms_iou)[: self.config.max_detections]
        return ScoredBoxes(boxes[kept], scores[kept], labels[kept])
