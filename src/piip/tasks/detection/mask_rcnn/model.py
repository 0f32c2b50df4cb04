"""Mask R-CNN (arXiv 1703.06870) on a backbone that gives a feature pyramid."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from piip.batches import ImageBatch, check_batch
from piip.checks import shown
from piip.tasks.detection.boxes import resize_factors
from piip.tasks.detection.detector import Detector, DetectorConfig
from piip.tasks.detection.mask_rcnn.box_head import BoxHeadConfig, BoxOutputs, ProposalSamples, ScoredBoxes
from piip.tasks.detection.mask_rcnn.fpn import FPNConfig
from piip.tasks.detection.mask_rcnn.mask_head import MaskHeadConfig, mask_targets
from piip.tasks.detection.mask_rcnn.roi_align import batch_boxes, pool_regions
from piip.tasks.detection.mask_rcnn.rpn import Proposals, RPNConfig
from piip.tasks.detection.structures import Detections, Target, check_targets


@dataclass(frozen=True, kw_only=True)
class MaskRCNNConfig(DetectorConfig):
    """A Mask R-CNN; see `DetectorConfig` for what all detectors have.

    Attributes:
        fpn: the feature pyramid on the backbone's maps.
        rpn: proposes where objects are.
        box_head: tells what they are and where exactly.
        mask_head: tells which pixels they have.
    """

    fpn: FPNConfig = field(default_factory=FPNConfig)
    rpn: RPNConfig = field(default_factory=RPNConfig)
    box_head: BoxHeadConfig = field(default_factory=BoxHeadConfig)
    mask_head: MaskHeadConfig = field(default_factory=MaskHeadConfig)

    def build(self) -> "MaskRCNN":
        """The model, with freshly initialised weights."""
        return MaskRCNN(self)


class MaskSamples(NamedTuple):
    """The proposals of one image that the mask head learns from: boxes (N, 4), labels (N,) and matched objects (N,)."""

    boxes: Tensor
    labels: Tensor
    objects: Tensor


class MaskRCNN(Detector):
    """Finds objects: their boxes, classes and masks."""

    config_class = MaskRCNNConfig
    learns_masks = True
    class_layers = ("box_head.classifier.", "box_head.regressor.", "mask_head.logits.")
    background_layers = ("box_head.classifier.",)
    config: MaskRCNNConfig

    def __init__(self, config: MaskRCNNConfig) -> None:
        super().__init__(config)
        channels, classes = config.fpn.channels, config.num_classes
        self.fpn = config.fpn.build(config.backbone.channels)  # before the large part: it may refuse the configuration
        self.rpn = config.rpn.build(channels, config.fpn.strides(config.backbone.strides))
        self.box_head = config.box_head.build(channels, classes)
        self.mask_head = config.mask_head.build(channels, classes)
        self.backbone = config.backbone.build()

    def forward(
        self, images: ImageBatch, targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """Find the objects of images, or compute the losses where targets are given.

        An image may have no objects at all.

        Args:
            images: a batch.
            targets: the objects of each image, with masks. Those whose mask is not known teach all but the mask head.

        Returns:
            The detections of each image, in coordinates of the original image; with targets the losses instead:
            `loss_rpn_cls`, `loss_rpn_bbox`, `loss_cls`, `loss_bbox` and `loss_mask`, to be added up.

        Raises:
            ValueError: for what is no batch of images, and targets that do not fit them.
        """
        check_batch(images)
        masks = [] if targets is None else _check_targets(images, targets)
        features = self.fpn(self.backbone(images.pixels))
        maps = self.rpn(features)
        if targets is None:
            return self.detect(images, features, self.rpn.propose(maps, images.sizes, self.config.rpn.proposals))
        targets = [target._replace(boxes=target.boxes.float()) for target in targets]
        proposals = self.rpn.propose(maps, images.sizes, self.config.rpn.training_proposals)
        samples = [self.box_head.sample(own.boxes, target) for own, target in zip(proposals, targets, strict=True)]
        return (
            self.rpn.loss(maps, targets, images.padded_sizes)
            | self._box_loss(features, samples)
            | self._mask_loss(features, [_with_mask(*pair) for pair in zip(samples, targets, strict=True)], masks)
        )

    def pool(self, features: Sequence[Tensor], boxes: Sequence[Tensor], size: int) -> Tensor:
        """Resample the features of boxes to grids.

        Args:
            features: maps of the feature pyramid; those beyond the backbone's have no part in it.
            boxes: of each image, (N, 4).
            size: cells along the sides of a grid.

        Returns:
            (all boxes, channels, size, size).
        """
        strides = self.config.backbone.strides
        return pool_regions(features[: len(strides)], strides, batch_boxes(boxes), size)

    def detect(
        self, images: ImageBatch, features: Sequence[Tensor], proposals: Sequence[Proposals]
    ) -> list[Detections]:
        """Turn the proposals of each image into detections; `features` are the maps of the feature pyramid."""
        outputs = self.box_head(self.pool(features, [own.boxes for own in proposals], self.config.box_head.pool_size))
        lengths = [len(own.boxes) for own in proposals]
        per_image = zip(outputs.logits.split(lengths), outputs.deltas.split(lengths), strict=True)
        factors = [
            resize_factors(original, size, outputs.logits.device)
            for original, size in zip(images.original_sizes, images.sizes, strict=True)
        ]
        found = [
            self.box_head.detect(BoxOutputs(*output), own.boxes, size, factor)
            for output, own, size, factor in zip(per_image, proposals, images.sizes, factors, strict=True)
        ]
        probs = self._mask_probs(features, found, factors)
        return [
            Detections(boxes=own.boxes, scores=own.scores, labels=own.labels, mask_probs=masks, image_size=size)
            for own, masks, size in zip(found, probs, images.original_sizes, strict=True)
        ]

    def _mask_probs(
        self, features: Sequence[Tensor], found: Sequence[ScoredBoxes], factors: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        boxes = [own.boxes * factor for own, factor in zip(found, factors, strict=True)]  # at the network's scale again
        logits = self.mask_head(self.pool(features, boxes, self.config.mask_head.pool_size))
        probs = self.mask_head.probabilities(logits, torch.cat([own.labels for own in found]))
        return probs.split([len(own.labels) for own in found])

    def _box_loss(self, features: Sequence[Tensor], samples: Sequence[ProposalSamples]) -> dict[str, Tensor]:
        regions = self.pool(features, [own.boxes for own in samples], self.config.box_head.pool_size)
        return self.box_head.loss(self.box_head(regions), samples)

    def _mask_loss(
        self, features: Sequence[Tensor], samples: Sequence[MaskSamples], masks: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        config = self.config.mask_head
        logits = self.mask_head(self.pool(features, [own.boxes for own in samples], config.pool_size))
        goals = [
            mask_targets(objects, own.objects, own.boxes, config.mask_size)
            for own, objects in zip(samples, masks, strict=True)
        ]
        return self.mask_head.loss(logits, torch.cat([own.labels for own in samples]), torch.cat(goals))


def _check_targets(images: ImageBatch, targets: Sequence[Target]) -> list[Tensor]:
    """Give the masks of each image."""
    check_targets(images, targets)
    found = []
    for number, target in enumerate(targets):
        expected = (len(target.boxes), *images.pixels.shape[-2:])
        if target.masks is None:
            raise ValueError(f"targets[{number}].masks: None, but Mask R-CNN learns masks")
        if target.masks.shape != expected:
            raise ValueError(
                f"targets[{number}].masks: expected (N, H, W) = {expected}, as large as the batch's images, got "
                f"{shown(target.masks)}"
            )
        found.append(target.masks)
    return found


def _with_mask(samples: ProposalSamples, target: Target) -> MaskSamples:
    """The samples that match an object whose mask is known; waits for the device unless all masks are."""
    positives = MaskSamples(samples.positive_boxes, samples.positive_labels, samples.objects)
    if target.has_mask is None:
        return positives
    known = target.has_mask[samples.objects].nonzero().squeeze(1)
    return MaskSamples(*(part[known] for part in positives))
