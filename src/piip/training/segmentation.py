"""Training a segmentor: its task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from piip.batches import ImageBatch
from piip.config import check_fields
from piip.tasks.segmentation.augmentation import SegmentationAugmentationConfig
from piip.tasks.segmentation.data import EvaluationSet, TrainingSample, TrainingSet, collate_training
from piip.tasks.segmentation.evaluation import evaluate
from piip.tasks.segmentation.files import open_split
from piip.tasks.segmentation.upernet.model import UperNet
from piip.training.recipe import TrainingConfig
from piip.training.task import Task

Batch = tuple[ImageBatch, Tensor]


@dataclass(frozen=True, kw_only=True)
class SegmentationRecipe:
    """How a segmentor is trained.

    Attributes:
        training: what the loop does.
        augmentation: what happens to an image and the labels of its pixels.
        evaluation_limit: evaluate during training on so many of the held-out images only; None for all.
    """

    training: TrainingConfig
    augmentation: SegmentationAugmentationConfig = field(default_factory=SegmentationAugmentationConfig)
    evaluation_limit: int | None = None

    def __post_init__(self) -> None:
        """Refuse values of other types."""
        check_fields(self)


class SegmentationTask(Task[UperNet]):
    """A segmentor and a dataset of images and masks.

    The held-out images are all read once, so that what is wrong is told before the training and not in its midst.

    Args:
        model: to train, with the classes of the data; takes over their colours.
        recipe: how.
        data: see `piip.tasks.segmentation.datasets.find_split`.

    Raises:
        ValueError: when the data are not there, do not have the model's classes, or have undeclared values.
    """

    def __init__(self, model: UperNet, recipe: SegmentationRecipe, data: Path) -> None:
        self.model = model
        self.recipe = recipe
        self.training = recipe.training
        self.score = "miou"
        preprocess, classes = model.config.preprocess, model.config.class_names or None
        train_files = open_split(data, "train", classes)
        val_files = open_split(data, "val", train_files.masks.class_names)
        if len(train_files.masks.class_names) != model.config.num_classes:
            raise ValueError(
                f"{data}: has {len(train_files.masks.class_names)} classes, and the model has "
                f"{model.config.num_classes}"
            )
        coding = train_files.masks.coding
        if coding.palette and coding.class_names == train_files.masks.class_names:
            model.config = replace(model.config, palette=coding.palette)
        self.train_data = TrainingSet(train_files, recipe.augmentation.build(preprocess))
        self.val_data = EvaluationSet(val_files, preprocess.build(), recipe.evaluation_limit)
        self.val_data.check()
        self.num_val = len(self.val_data)
        self.data_summary = [*train_files.summary(), *val_files.summary()]

    def collate(self, samples: Sequence[TrainingSample]) -> Batch:
        """Stack squares of images and their labels."""
        return collate_training(samples)

    def losses(self, model: nn.Module, batch: Batch, key: tuple[int, ...]) -> dict[str, Tensor]:
        """The losses of the segmentor; it draws from the generators that the loop has seeded."""
        del key
        return model(*batch)

    def evaluate(
        self, model: UperNet, *, autocast: torch.dtype | None, progress: Callable[[int], None]
    ) -> dict[str, float]:
        """Mean IoU, mean accuracy of the classes, and accuracy of all pixels, in per cent.

        Images that cannot be read are left out, with a warning.
        """
        scores = evaluate(
            model,
            self.val_data,
            num_workers=self.training.num_workers,
            autocast=autocast,
            skip_unreadable=True,
            progress=progress,
        )
        figures = {"miou": scores.miou, "mean_accuracy": scores.mean_accuracy, "accuracy": scores.accuracy}
        return self.figures_of(scores.num_images, figures)
