"""UperNet (arXiv 1807.10221) on a backbone that gives a feature pyramid."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from piip.batches import ImageBatch
from piip.config import check_class_names, check_fields
from piip.hub import PretrainedModel, evaluating
from piip.images import ImageSource, list_sources
from piip.pyramid.backbone import BackboneConfig
from piip.pyramid.merging import resize_map
from piip.tasks.segmentation.augmentation import SegmentationPreprocessConfig
from piip.tasks.segmentation.coding import Colour, check_colours
from piip.tasks.segmentation.prediction import LabelMap, predict
from piip.tasks.segmentation.structures import IGNORED
from piip.tasks.segmentation.upernet.fcn_head import FCNHeadConfig
from piip.tasks.segmentation.upernet.inference import Inference, WholeInference, label_map
from piip.tasks.segmentation.upernet.uper_head import UperHeadConfig

_CLASS_LAYERS = ("decode_head.classifier.", "auxiliary_head.classifier.")


@dataclass(frozen=True, kw_only=True)
class UperNetConfig:
    """An UperNet.

    Attributes:
        backbone: what the images go through first.
        num_classes: number of classes.
        class_names: what the classes are called; empty when that is not known.
        decode_head: tells the class of each pixel.
        auxiliary_head: tells it from one map, in training only; None to do without.
        inference: how an image goes through the network.
        preprocess: how images are prepared before that.
        palette: colours of the classes, in pictures; empty for any.
    """

    backbone: BackboneConfig
    num_classes: int = 150
    class_names: tuple[str, ...] = ()
    decode_head: UperHeadConfig = field(default_factory=UperHeadConfig)
    auxiliary_head: FCNHeadConfig | None = field(default_factory=FCNHeadConfig)
    inference: Inference = field(default_factory=WholeInference)
    preprocess: SegmentationPreprocessConfig = field(default_factory=SegmentationPreprocessConfig)
    palette: tuple[Colour, ...] = ()

    def __post_init__(self) -> None:
        """Refuse more classes than labels, other names than classes, and a head on a map that is not there."""
        check_fields(self)
        if not 1 <= self.num_classes <= IGNORED:
            raise ValueError(f"num_classes: expected from 1 to {IGNORED}, got {self.num_classes}")
        check_class_names(self.class_names, self.num_classes)
        if self.palette and len(self.palette) != self.num_classes:
            raise ValueError(f"palette: {len(self.palette)} colours, but num_classes is {self.num_classes}")
        check_colours("palette", self.palette)
        levels = len(self.backbone.levels)
        if self.auxiliary_head is not None and self.auxiliary_head.level >= levels:
            raise ValueError(
                f"auxiliary_head.level: {self.auxiliary_head.level} is none of the backbone's {levels} maps, counted "
                "from 0"
            )

    def with_classes(self, class_names: Sequence[str]) -> "UperNetConfig":
        """The same model for other classes, whose colours are any.

        Raises:
            ValueError: for no class at all, or more than there are labels.
        """
        return replace(self, num_classes=len(class_names), class_names=tuple(class_names), palette=())

    def build(self) -> "UperNet":
        """The model, with freshly initialised weights."""
        return UperNet(self)


class UperNet(PretrainedModel):
    """Tells the class of each pixel."""

    config_class = UperNetConfig
    pipeline_tag = "image-segmentation"

    def __init__(self, config: UperNetConfig) -> None:
        super().__init__()
        self.config = config
        channels, classes, auxiliary = config.backbone.channels, config.num_classes, config.auxiliary_head
        self.decode_head = config.decode_head.build(channels, classes)
        self.auxiliary_head = None if auxiliary is None else auxiliary.build(channels[auxiliary.level], classes)
        self.backbone = config.backbone.build()

    def forward(self, images: ImageBatch, labels: Tensor | None = None) -> dict[str, Tensor] | tuple[Tensor, ...]:
        """Label the pixels of images, or compute the losses where labels are given.

        Args:
            images: a batch.
            labels: (B, H, W), int64, the class of each pixel of `images.pixels`; 255 where it is not learned from.

        Returns:
            The label map (H, W), int64, of each image, at its original size; with labels the losses instead:
            `loss_decode` and `loss_auxiliary`, to be added up.

        Raises:
            ValueError: for labels that do not fit the images; without labels, in training mode.
        """
        if labels is None:
            return self.segment(images)
        if labels.shape != (len(images.pixels), *images.pixels.shape[-2:]):
            raise ValueError(
                f"labels: expected one for each pixel of the batch, {len(images.pixels), *images.pixels.shape[-2:]}, "
                f"got the shape {tuple(labels.shape)}"
            )
        return self._losses(images, labels)

    def predict(self, images: ImageSource | Sequence[ImageSource]) -> list[LabelMap]:
        """Label the pixels of images with the model's own preprocessing, in evaluation mode, on the device it is on.

        `piip.tasks.segmentation.prediction.predict` has more options, and gives each image as soon as it is done.

        Args:
            images: one or several: files, pictures of Pillow, arrays, tensors; see `piip.images.ImageSource`.

        Raises:
            ImageError: for what is no image, or cannot be read, naming the file.
        """
        with evaluating(self):
            return [label_map for _, label_map in predict(self, self.config.preprocess, list_sources(images))]

    @torch.no_grad()
    def segment(self, images: ImageBatch) -> tuple[Tensor, ...]:
        """Label the pixels of images, one image at a time; as `forward` without labels.

        Raises:
            ValueError: in training mode.
        """
        if self.training:
            raise ValueError(
                "labels: there are none, and in training mode the batch norms would take the statistics of these "
                "images, and learn from them; call eval() before predicting"
            )
        padded_sizes = images.padded_sizes or ((images.pixels.shape[-2], images.pixels.shape[-1]),) * len(images.sizes)
        labels = []
        for number, padded in enumerate(padded_sizes):
            pixels = images.pixels[number : number + 1, :, : padded[0], : padded[1]]
            logits = self.config.inference.run(self.logits, pixels, self.config.num_classes)
            labels.append(label_map(logits, padded, images.sizes[number], images.original_sizes[number]))
        return tuple(labels)

    def logits(self, pixels: Tensor) -> Tensor:
        """What the decode head says of images (B, 3, H, W): (B, num_classes, h, w), of the finest map's size."""
        return self.decode_head(self.backbone(pixels))

    def _losses(self, images: ImageBatch, labels: Tensor) -> dict[str, Tensor]:
        features = self.backbone(images.pixels)
        losses = {"loss_decode": self.config.decode_head.loss_weight * _loss(self.decode_head(features), labels)}
        if self.auxiliary_head is not None:
            config = self.auxiliary_head.config
            losses["loss_auxiliary"] = config.loss_weight * _loss(self.auxiliary_head(features[config.level]), labels)
        return losses

    @property
    def class_tensors(self) -> tuple[str, ...]:
        """Names of the tensors that belong to the classes."""
        return tuple(name for name in self.state_dict() if name.startswith(_CLASS_LAYERS))

    def with_classes(self, class_names: tuple[str, ...]) -> "UperNet":
        """A model for other classes: with these weights, but for `class_tensors`, which are new.

        Of those, what belongs to a class of the same name is kept. With the classes that it has already, the model
        itself. Where this model has no names for its classes (of an official dict), as many names are taken for theirs,
        and all weights are kept.
        """
        if class_names == self.config.class_names:
            return self
        if not self.config.class_names and len(class_names) == self.config.num_classes:
            return self.rebuild(self.config.with_classes(class_names))
        model = self.rebuild(self.config.with_classes(class_names), self.class_tensors)
        self._copy_classes(model)
        return model

    @torch.no_grad()
    def _copy_classes(self, model: "UperNet") -> None:
        old = self.config.class_names
        pairs = [(label, old.index(name)) for label, name in enumerate(model.config.class_names) if name in old]
        for name in self.class_tensors:
            target, source = model.get_parameter(name), self.get_parameter(name)
            for label, own in pairs:
                target[label] = source[own]


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of logits (B, C, h, w) at the size of the labels, by the number of all pixels, ignored ones too."""
    logits = resize_map(logits.float(), *labels.shape[-2:])
    return F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum") / labels.numel()
