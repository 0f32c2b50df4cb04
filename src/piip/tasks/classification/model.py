"""Image classification on a pyramid."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from piip.checks import check_type, shown
from piip.config import as_class_names, check_class_names, check_fields
from piip.hub import PretrainedModel, evaluating
from piip.images import ImageSource, list_sources
from piip.pyramid import PyramidConfig
from piip.tasks.classification.data import PreprocessConfig
from piip.tasks.classification.heads import MergedHeadConfig, SeparateHeadsConfig
from piip.tasks.classification.prediction import ClassScore, predict

_CLASSIFIER = re.compile(r"head\.(branches\.\d+\.)?linear\.(weight|bias)")

HeadConfig = SeparateHeadsConfig | MergedHeadConfig


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig:
    """A classifier.

    Attributes:
        pyramid: the backbone.
        head: separate heads, or one on the merged branches.
        preprocess: how an image is prepared for this model; its `input_size` is `pyramid.image_size` where it is None.
        class_names: what the classes are called; empty when that is not known.
    """

    pyramid: PyramidConfig
    head: HeadConfig = field(default_factory=SeparateHeadsConfig)
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse class names that do not fit the head."""
        check_fields(self)
        if self.preprocess.input_size is None:
            preprocess = replace(self.preprocess, input_size=self.pyramid.image_size)
            object.__setattr__(self, "preprocess", preprocess)
        check_class_names(self.class_names, self.head.num_classes, "head.num_classes")

    @property
    def num_classes(self) -> int:
        """How many classes there are; 0 for a model that only gives features."""
        return self.head.num_classes

    def with_classes(self, class_names: Sequence[str]) -> "ClassificationConfig":
        """The same model for other classes.

        Raises:
            ValueError: for no class at all.
        """
        names = as_class_names(class_names)
        if not names:
            raise ValueError("class_names: a classifier needs at least one class, got none")
        return replace(self, head=replace(self.head, num_classes=len(names)), class_names=names)

    def build(self) -> "ClassificationModel":
        """The model, with freshly initialised weights."""
        return ClassificationModel(self)


class ClassificationModel(PretrainedModel):
    """A pyramid with a classification head."""

    config_class = ClassificationConfig
    pipeline_tag = "image-classification"
    config: ClassificationConfig

    def __init__(self, config: ClassificationConfig) -> None:
        super().__init__(config)
        self.head = config.head.build(config.pyramid)  # before the large part: it may refuse the configuration
        self.pyramid = config.pyramid.build()

    def forward(self, images: Tensor, targets: Tensor | None = None) -> dict[str, Tensor]:
        """Classify images, or compute the loss where targets are given.

        Args:
            images: (B, 3, H, W), normalised.
            targets: classes (B,), or their probabilities (B, num_classes) from mixing or label smoothing.

        Returns:
            `logits` (B, num_classes); with targets the loss `cross_entropy` instead; of a model without classifier
            (`num_classes` 0) the `features` (B, h, w, C) of its head.

        Raises:
            ValueError: for what is no batch of images; for targets that do not fit them, or where there is no
                classifier.
        """
        if targets is not None:
            self.require_classes()
        output = self.head(self.pyramid(images))
        if not self.config.head.num_classes:
            return {"features": output}
        return {"logits": output} if targets is None else {"cross_entropy": _cross_entropy(output, targets)}

    def predict(self, images: ImageSource | Sequence[ImageSource], *, top: int = 5) -> list[list[ClassScore]]:
        """Classify images with the model's own preprocessing, in evaluation mode, on the device that it is on.

        `piip.tasks.classification.prediction.predict` has more options, and gives each image as soon as it is done.

        Args:
            images: one or several: files, pictures of Pillow, arrays, tensors; see `piip.images.ImageSource`.
            top: how many classes to give of each, best first.

        Raises:
            ImageError: for what is no image, or cannot be read, naming the file.
            ValueError: for a model without classes or weights, or no class to give.
        """
        with evaluating(self):
            return [scores for _, scores in predict(self, list_sources(images), top=top)]

    def require_classes(self) -> None:
        """Refuse a model that only gives features.

        Raises:
            ValueError: when it has no classifier.
        """
        if not self.config.head.num_classes:
            raise ValueError(
                "head.num_classes: 0, so that this model has neither classes nor a loss; it gives features"
            )

    @property
    def class_tensors(self) -> tuple[str, ...]:
        """Names of the tensors that belong to the classes: what `with_classes` makes anew."""
        return tuple(name for name in self.state_dict() if _CLASSIFIER.fullmatch(name))

    def with_classes(self, class_names: Sequence[str]) -> "ClassificationModel":
        """A model for other classes: with these weights, but for `class_tensors`, which are new.

        With the classes that it has already, the model itself.
        """
        config = self.config.with_classes(class_names)
        return self if config.class_names == self.config.class_names else self.rebuild(config, self.class_tensors)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Of logits (B, C), with the class of each image, or the probabilities of all classes."""
    check_type("targets", targets, Tensor, "a tensor")
    is_mixed = targets.is_floating_point()
    shape = logits.shape if is_mixed else logits.shape[:1]
    if targets.shape != shape or not (is_mixed or targets.dtype == torch.int64):
        raise ValueError(
            f"targets: expected classes of shape {tuple(logits.shape[:1])}, int64, or probabilities of shape "
            f"{tuple(logits.shape)}, got {shown(targets)}"
        )
    return F.cross_entropy(logits, targets)
