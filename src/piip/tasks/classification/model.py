"""Image classification on a pyramid."""

from dataclasses import dataclass, field, replace

import torch.nn.functional as F
from torch import Tensor, nn

from piip.hub import PretrainedMixin
from piip.pyramid import PyramidConfig
from piip.tasks.classification.data import PreprocessConfig
from piip.tasks.classification.heads import MergedHeadConfig, SeparateHeadsConfig

HeadConfig = SeparateHeadsConfig | MergedHeadConfig


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig:
    """A classifier.

    Attributes:
        pyramid: the backbone.
        head: separate heads, or one on the merged branches.
        preprocess: how an image is prepared for this model; its `input_size` is usually `pyramid.image_size`.
        class_names: what the classes are called; empty when that is not known.
    """

    pyramid: PyramidConfig
    head: HeadConfig = field(default_factory=SeparateHeadsConfig)
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse class names that do not fit the head."""
        if self.class_names and len(self.class_names) != self.head.num_classes:
            raise ValueError(
                f"class_names: {len(self.class_names)} names, but head.num_classes is {self.head.num_classes}"
            )

    def with_classes(self, class_names: tuple[str, ...]) -> "ClassificationConfig":
        """The same model for other classes."""
        return replace(self, head=replace(self.head, num_classes=len(class_names)), class_names=class_names)

    def build(self) -> "ClassificationModel":
        """The model, with freshly initialised weights."""
        return ClassificationModel(self)


class ClassificationModel(nn.Module, PretrainedMixin):
    """A pyramid with a classification head."""

    config_class = ClassificationConfig

    def __init__(self, config: ClassificationConfig) -> None:
        super().__init__()
        self.config = config
        self.head = config.head.build(config.pyramid)  # before the large part: it may refuse the configuration
        self.pyramid = config.pyramid.build()

    def forward(self, images: Tensor, targets: Tensor | None = None) -> dict[str, Tensor]:
        """Classify images, or compute the loss where targets are given.

        Args:
            images: (B, 3, H, W), normalised.
            targets: classes (B,), or their probabilities (B, num_classes) from mixing or label smoothing.

        Returns:
            `logits` (B, num_classes); with targets the loss `cross_entropy` instead; of a model without classifier
            (`num_classes` 0) the merged `features` (B, h, w, C).

        Raises:
            ValueError: for targets where there is no classifier.
        """
        output = self.head(self.pyramid(images))
        if not self.config.head.num_classes:
            if targets is not None:
                raise ValueError("targets: a model without classes (head.num_classes 0) has no loss")
            return {"features": output}
        return {"logits": output} if targets is None else {"cross_entropy": F.cross_entropy(output, targets)}
