"""Training a detector: its task, and the recipes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from piip.batches import ImageBatch
from piip.config import check_fields, listing
from piip.tasks.detection.augmentation import DetectionAugmentationConfig, SingleScaleConfig
from piip.tasks.detection.coco import CocoAnnotations, read_coco
from piip.tasks.detection.data import EvaluationSet, TrainingSample, TrainingSet, collate_samples
from piip.tasks.detection.datasets import find_split
from piip.tasks.detection.detector import Detector
from piip.tasks.detection.evaluation import evaluate
from piip.tasks.detection.structures import Target
from piip.training.recipe import TrainingConfig
from piip.training.task import Task

Batch = tuple[ImageBatch, tuple[Target, ...]]


@dataclass(frozen=True, kw_only=True)
class DetectionRecipe:
    """How a detector is trained.

    Attributes:
        training: what the loop does.
        augmentation: what happens to an image and its objects.
        keep_empty: train on images without any annotation as well.
        evaluation_limit: evaluate during training on the first held-out images only, so many; None for all.
    """

    training: TrainingConfig
    augmentation: DetectionAugmentationConfig = field(default_factory=SingleScaleConfig)
    keep_empty: bool = False
    evaluation_limit: int | None = None

    def __post_init__(self) -> None:
        """Refuse values of other types."""
        check_fields(self)


class DetectionData(NamedTuple):
    """The annotations of a dataset, read once: of the images to train on, and of held-out ones with the same labels."""

    train: CocoAnnotations
    val: CocoAnnotations


def read_data(data: Path, class_names: Sequence[str] | None = None) -> DetectionData:
    """Read and check the annotations of a dataset.

    Args:
        data: see `piip.tasks.detection.datasets.find_split`.
        class_names: of each label, those of a model; by default those of the data.

    Raises:
        DatasetError: when the data are not there, or do not have these classes.
    """
    train = read_coco(*find_split(data, "train"), class_names)
    return DetectionData(train, read_coco(*find_split(data, "val"), train.class_names))


class DetectionTask(Task[Detector]):
    """A detector and a dataset in the format of COCO.

    Args:
        model: to train, with the classes of the data.
        recipe: how.
        data: of `read_data`.

    Raises:
        ValueError: when the labels of the data are not those of the model.
    """

    def __init__(self, model: Detector, recipe: DetectionRecipe, data: DetectionData) -> None:
        _check_labels(model, data.train)
        self.model = model
        self.recipe = recipe
        self.training = recipe.training
        preprocess = model.config.preprocess
        self.train_data = TrainingSet(
            data.train,
            recipe.augmentation.build(preprocess),
            with_masks=model.learns_masks,
            keep_empty=recipe.keep_empty,
        )
        self.groups = self.train_data.aspect_groups
        self.val_data = EvaluationSet(data.val, preprocess.build(), recipe.evaluation_limit)
        self.num_val = len(self.val_data)
        self.score = "mask_ap" if model.learns_masks and data.val.has_mask.any() else "box_ap"
        self.data_summary = [*data.train.summary(), *self.train_data.summary(), *data.val.summary()]

    def collate(self, samples: Sequence[TrainingSample]) -> Batch:
        """Pad images and masks to a common size."""
        return collate_samples(samples, self.model.config.preprocess.size_divisor)

    def losses(self, model: nn.Module, batch: Batch, key: tuple[int, ...]) -> dict[str, Tensor]:
        """The losses of the detector; it draws from the generators that the loop has seeded."""
        del key
        return model(*batch)

    def evaluate(
        self, model: Detector, *, autocast: torch.dtype | None, progress: Callable[[int], None]
    ) -> dict[str, float]:
        """Average precision of boxes, and of masks if model and data have them, in per cent; that of nothing is 0.

        Images that cannot be read are left out, with a warning.
        """
        scores = evaluate(
            model,
            self.val_data,
            size_divisor=model.config.preprocess.size_divisor,
            num_workers=self.training.num_workers,
            autocast=autocast,
            skip_unreadable=True,
            progress=progress,
        )
        kinds = {"box": scores.box} | ({"mask": scores.mask} if scores.mask is not None else {})
        found = {f"{kind}_ap": own.ap for kind, own in kinds.items()}
        found |= {f"{kind}_ap50": own.ap50 for kind, own in kinds.items()}
        return self.figures_of(scores.num_images, {name: value or 0.0 for name, value in found.items()})


def _check_labels(model: Detector, annotations: CocoAnnotations) -> None:
    found, config = annotations.class_names, model.config
    if len(found) != config.num_classes:
        raise ValueError(f"{annotations.file}: has {len(found)} classes, and the model has {config.num_classes}")
    if config.class_names and found != config.class_names:
        raise ValueError(
            f"{annotations.file}: its classes are {listing(found)}, and those of the model, in their order, "
            f"{listing(config.class_names)}; read it with these class_names"
        )
