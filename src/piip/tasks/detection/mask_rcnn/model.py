"""Mask R-CNN (arXiv 1703.06870) on a backbone that gives a feature pyramid."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from piip.config import check_fields
from piip.hub import PretrainedModel
from piip.pyramid.backbone import BackboneConfig
from piip.tasks.detection.augmentation import DetectionPreprocessConfig
from piip.tasks.detection.boxes import larger_than, resize_factors
from piip.tasks.detection.mask_rcnn.box_head import BoxHeadConfig, BoxOutputs, ProposalSamples, ScoredBoxes
from piip.tasks.detection.mask_rcnn.fpn import FPNConfig
from piip.tasks.detection.mask_rcnn.mask_head import MaskHeadConfig, mask_targets
from piip.tasks.detection.mask_rcnn.roi_align import batch_boxes, pool_regions
from piip.tasks.detection.mask_rcnn.rpn import Proposals, RPNConfig
from piip.tasks.detection.structures import Detections, ImageBatch, Target

_CLASS_LAYERS = ("box_head.classifier.", "box_head.regressor.", "mask_head.logits.")


@dataclass(frozen=True, kw_only=True)
class MaskRCNNConfig:
    """A Mask R-CNN.

    Attributes:
        backbone: what the images go through first.
        num_classes: number of classes, without background.
        class_names: what the classes are called; empty when that is not known.
        fpn: the feature pyramid on the backbone's maps.
        rpn: proposes where objects are.
        box_head: tells what they are and where exactly.
        mask_head: tells which pixels they have.
        preprocess: how an image is prepared for this model.
    """

    backbone: BackboneConfig
    num_classes: int = 80
    class_names: tuple[str, ...] = ()
    fpn: FPNConfig = field(default_factory=FPNConfig)
    rpn: RPNConfig = field(default_factory=RPNConfig)
    box_head: BoxHeadConfig = field(default_factory=BoxHeadConfig)
    mask_head: MaskHeadConfig = field(default_factory=MaskHeadConfig)
    preprocess: DetectionPreprocessConfig = field(default_factory=DetectionPreprocessConfig)

    def __post_init__(self) -> None:
        """Refuse a detector without classes, or with other names than classes."""
        check_fields(self)
        if self.num_classes < 1:
            raise ValueError(f"num_classes: a detector needs at least one class, got {self.num_classes}")
        if self.class_names and len(self.class_names) != self.num_classes:
            raise ValueError(f"class_names: {len(self.class_names)} names, but num_classes is {self.num_classes}")

    def with_classes(self, class_names: Sequence[str]) -> "MaskRCNNConfig":
        """The same model for other classes.

        Raises:
            ValueError: for no class at all.
        """
        return replace(self, num_classes=len(class_names), class_names=tuple(class_names))

    def build(self) -> "MaskRCNN":
        """The model, with freshly initialised weights."""
        return MaskRCNN(self)


class MaskRCNN(PretrainedModel):
    """Finds objects: their boxes, classes and masks."""

    config_class = MaskRCNNConfig

    def __init__(self, config: MaskRCNNConfig) -> None:
        super().__init__()
        self.config = config
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

        Empty boxes in the targets are not learned from. An image may have no objects at all.

        Args:
            images: a batch.
            targets: the objects of each image, with masks.

        Returns:
            The detections of each image, in coordinates of the original image; with targets the losses instead:
            `loss_rpn_cls`, `loss_rpn_bbox`, `loss_cls`, `loss_bbox` and `loss_mask`, to be added up.

        Raises:
            ValueError: for targets that do not fit the images.
        """
        if targets is not None:
            _check_targets(images, targets)
        features = self.fpn(self.backbone(images.pixels))
        maps = self.rpn(features)
        if targets is None:
            return self.detect(images, features, self.rpn.propose(maps, images.sizes, self.config.rpn.proposals))
        targets = [_without_empty_boxes(target) for target in targets]
        proposals = self.rpn.propose(maps, images.sizes, self.config.rpn.training_proposals)
        samples = [self.box_head.sample(own.boxes, target) for own, target in zip(proposals, targets, strict=True)]
        return (
            self.rpn.loss(maps, targets, images.padded_sizes)
            | self._box_loss(features, samples)
            | self._mask_loss(features, samples, targets)
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
        self, features: Sequence[Tensor], samples: Sequence[ProposalSamples], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        config = self.config.mask_head
        logits = self.mask_head(self.pool(features, [own.positive_boxes for own in samples], config.pool_size))
        goals = [
            mask_targets(target.masks, own.objects, own.positive_boxes, config.mask_size)
            for own, target in zip(samples, targets, strict=True)
            if target.masks is not None
        ]
        return self.mask_head.loss(logits, torch.cat([own.positive_labels for own in samples]), torch.cat(goals))

    @property
    def class_tensors(self) -> tuple[str, ...]:
        """Names of the tensors that belong to the classes."""
        return tuple(name for name in self.state_dict() if name.startswith(_CLASS_LAYERS))

    def with_classes(self, class_names: tuple[str, ...]) -> "MaskRCNN":
        """A model for other classes: with these weights, but for `class_tensors`, which are new.

        Of those, what belongs to a class of the same name is kept, and to the background if there is such a class. With
        the classes that it has already, the model itself. A model without names for its classes (of an official dict)
        takes over as many names, and keeps all weights.
        """
        if class_names == self.config.class_names:
            return self
        if not self.config.class_names and len(class_names) == self.config.num_classes:
            self.config = self.config.with_classes(class_names)
            return self
        model = self.config.with_classes(class_names).build()
        new = set(self.class_tensors)
        kept = {name: tensor for name, tensor in self.state_dict().items() if name not in new}
        model.load_state_dict(kept, strict=False)
        self._copy_classes(model)
        return model.train(self.training)

    @torch.no_grad()
    def _copy_classes(self, model: "MaskRCNN") -> None:
        old, new = self.config.class_names, model.config.class_names
        pairs = [(label, old.index(name)) for label, name in enumerate(new) if name in old]
        for name in self.class_tensors:
            extra = int(name.startswith("box_head.classifier."))  # the background, last
            target = model.get_parameter(name).unflatten(0, (len(new) + extra, -1))
            source = self.get_parameter(name).unflatten(0, (self.config.num_classes + extra, -1))
            for label, own in [*pairs, (-1, -1)] if extra and pairs else pairs:
                target[label] = source[own]


def _check_targets(images: ImageBatch, targets: Sequence[Target]) -> None:
    if len(targets) != len(images.pixels):
        raise ValueError(f"targets: {len(targets)}, but the batch has {len(images.pixels)} images")
    for number, (boxes, labels, masks) in enumerate(targets):
        if masks is None:
            raise ValueError(f"targets[{number}].masks: None, but Mask R-CNN learns masks")
        expected = (len(boxes), *images.pixels.shape[-2:])
        if masks.shape != expected or boxes.shape != (len(boxes), 4) or labels.shape != (len(boxes),):
            raise ValueError(
                f"targets[{number}]: expected boxes (N, 4), labels (N,) and masks (N, H, W) = {expected}, as large as "
                f"the batch's images; got {tuple(boxes.shape)}, {tuple(labels.shape)} and {tuple(masks.shape)}"
            )


def _without_empty_boxes(target: Target) -> Target:
    """The target with boxes in float32; an empty one could neither be found nor regressed to."""
    boxes = target.boxes.float()
    kept = larger_than(boxes, 0).nonzero().squeeze(1)
    if len(kept) == len(boxes) or target.masks is None:  # without a copy of the masks
        return Target(boxes, target.labels, target.masks)
    return Target(boxes[kept], target.labels[kept], target.masks[kept])
