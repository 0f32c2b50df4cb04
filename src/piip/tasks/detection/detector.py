"""What all detectors have in common: the fields of their configurations, and how they get other classes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch

from piip.config import check_class_names, check_fields
from piip.hub import PretrainedModel, evaluating
from piip.images import ImageSource, list_sources
from piip.pyramid.backbone import Backbone, BackboneConfig
from piip.tasks.detection.augmentation import DetectionPreprocessConfig
from piip.tasks.detection.prediction import predict
from piip.tasks.detection.structures import Detections


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(ABC):
    """A detector.

    Attributes:
        backbone: what the images go through first.
        num_classes: number of classes, without background.
        class_names: what the classes are called; empty when that is not known.
        preprocess: how an image is prepared for this model.
    """

    backbone: BackboneConfig
    num_classes: int = 80
    class_names: tuple[str, ...] = ()
    preprocess: DetectionPreprocessConfig = field(default_factory=DetectionPreprocessConfig)

    def __post_init__(self) -> None:
        """Refuse a detector without classes, or with other names than classes."""
        check_fields(self)
        if self.num_classes < 1:
            raise ValueError(f"num_classes: a detector needs at least one class, got {self.num_classes}")
        check_class_names(self.class_names, self.num_classes)

    def with_classes(self, class_names: Sequence[str]) -> Self:
        """The same model for other classes.

        Raises:
            ValueError: for no class at all.
        """
        return replace(self, num_classes=len(class_names), class_names=tuple(class_names))

    @abstractmethod
    def build(self) -> "Detector":
        """The model, with freshly initialised weights."""


class Detector(PretrainedModel):
    """Takes an `ImageBatch` and gives the `Detections` of each image; its losses where it is given `Target`s too.

    Attributes:
        learns_masks: whether its targets have masks, and its detections too.
        class_layers: beginnings of the names of the tensors whose first dimension is the classes.
        background_layers: those among them that have background after the classes.
    """

    pipeline_tag = "object-detection"
    learns_masks: ClassVar[bool]
    class_layers: ClassVar[tuple[str, ...]]
    background_layers: ClassVar[tuple[str, ...]] = ()
    config: DetectorConfig
    backbone: Backbone

    def predict(self, images: ImageSource | Sequence[ImageSource], *, threshold: float = 0.5) -> list[Detections]:
        """Find the objects in images with the model's own preprocessing, in evaluation mode, on the device it is on.

        `piip.tasks.detection.prediction.predict` has more options, and gives each image as soon as it is done.

        Args:
            images: one or several: files, pictures of Pillow, arrays, tensors; see `piip.images.ImageSource`.
            threshold: what is less certain is left out.

        Raises:
            ImageError: for what is no image, or cannot be read, naming the file.
        """
        with evaluating(self):
            found = predict(self, self.config.preprocess, list_sources(images), threshold=threshold)
            return [detections for _, detections in found]

    @property
    def class_tensors(self) -> tuple[str, ...]:
        """Names of the tensors that belong to the classes."""
        return tuple(name for name in self.state_dict() if name.startswith(self.class_layers))

    def with_classes(self, class_names: tuple[str, ...]) -> Self:
        """A model for other classes: with these weights, but for `class_tensors`, which are new.

        Of those, what belongs to a class of the same name is kept, and to the background if there is such a class. With
        the classes that it has already, the model itself. Where this model has no names for its classes (of an official
        dict), as many names are taken for theirs, and all weights are kept.
        """
        if class_names == self.config.class_names:
            return self
        if not self.config.class_names and len(class_names) == self.config.num_classes:
            return self.rebuild(self.config.with_classes(class_names))
        model = self.rebuild(self.config.with_classes(class_names), self.class_tensors)
        self._copy_classes(model)
        return model

    @torch.no_grad()
    def _copy_classes(self, model: Self) -> None:
        old, new = self.config.class_names, model.config.class_names
        pairs = [(label, old.index(name)) for label, name in enumerate(new) if name in old]
        for name in self.class_tensors:
            extra = int(name.startswith(self.background_layers))
            target = model.get_parameter(name).unflatten(0, (len(new) + extra, -1))
            source = self.get_parameter(name).unflatten(0, (self.config.num_classes + extra, -1))
            for label, own in [*pairs, (-1, -1)] if extra and pairs else pairs:
                target[label] = source[own]
