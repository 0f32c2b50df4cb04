"""Training a detector: its task, and the recipes."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from piip.batches import ImageBatch
from piip.config import check_fields
from piip.distributed import rank
from piip.images import ImageWarning
from piip.tasks.detection.augmentation import DetectionAugmentationConfig, SingleScaleConfig
from piip.tasks.detection.coco import read_coco
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


class DetectionTask(Task[Detector]):
    """A detector and a dataset in the format of COCO.

    Args:
        model: to train, with the classes of the data.
        recipe: how.
        data: see `piip.tasks.detection.datasets.find_split`.

    Raises:
        ValueError: when the data are not there, or do not have the model's classes.
    """

    def __init__(self, model: Detector, recipe: DetectionRecipe, data: Path) -> None:
        self.model = model
        self.recipe = recipe
        self.training = recipe.training
        preprocess, classes = model.config.preprocess, model.config.class_names or None
        train_annotations = read_coco(*find_split(data, "train"), classes)
        val_annotations = read_coco(*find_split(data, "val"), train_annotations.class_names)
        if len(train_annotations.class_names) != model.config.num_classes:
            raise ValueError(
                f"{data}: has {len(train_annotations.class_names)} classes, and the model has "
                f"{model.config.num_classes}"
            )
        self.train_data = TrainingSet(
            train_annotations,
            recipe.augmentation.build(preprocess),
            with_masks=model.learns_masks,
            keep_empty=recipe.keep_empty,
        )
        self.groups = self.train_data.aspect_groups
        self.val_data = EvaluationSet(val_annotations, preprocess.build(), recipe.evaluation_limit)
        self.num_val = len(self.val_data)
        self.score = "mask_ap" if model.learns_masks and val_annotations.has_mask.any() else "box_ap"
        self.data_summary = [*train_annotations.summary(), *self.train_data.summary(), *val_annotations.summary()]

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
        if scores.num_images < self.num_val and rank() == 0:
            text = f"scored on {scores.num_images} of {self.num_val} held-out images: the others cannot be read"
            warnings.warn(text, ImageWarning, stacklevel=2)
        kinds = {"box": scores.box} | ({"mask": scores.mask} if scores.mask is not None else {})
        found = {f"{kind}_ap": own.ap for kind, own in kinds.items()}
        found |= {f"{kind}_ap50": own.ap50 for kind, own in kinds.items()}
        return {name: value or 0.0 for name, value in found.items()}
