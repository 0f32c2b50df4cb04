"""Training a classifier: its task, and the recipes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from piip.config import check_fields
from piip.sampling import IndexedDataset
from piip.tasks.classification.data import AugmentationConfig, ImageFolder, open_image_folder
from piip.tasks.classification.evaluation import evaluate
from piip.tasks.classification.mixing import MixingConfig
from piip.tasks.classification.model import ClassificationModel
from piip.training.optimizer import OptimizerConfig
from piip.training.recipe import TrainingConfig
from piip.training.schedule import CosineSchedule
from piip.training.task import Task

_EVALUATION_BATCH = 64  # images, on each process


@dataclass(frozen=True, kw_only=True)
class ClassificationRecipe:
    """How a classifier is trained.

    Attributes:
        training: what the loop does.
        augmentation: what happens to an image.
        mixing: what happens to a batch.
    """

    training: TrainingConfig
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    mixing: MixingConfig = field(default_factory=MixingConfig)

    def __post_init__(self) -> None:
        """Refuse values of other types."""
        check_fields(self)


def released_recipe() -> ClassificationRecipe:
    """The paper's settings for the three released classifiers (arXiv 2406.04330, section 4.4).

    Neither the paper nor the release tells how far the cosine goes down and the warmup starts: here both are 0.
    """
    return ClassificationRecipe(
        training=TrainingConfig(
            epochs=20,
            batch_size=1024,
            optimizer=OptimizerConfig(lr=3e-5, weight_decay=0.1, lr_multipliers={"pyramid.interactions": 10.0}),
            schedule=CosineSchedule(warmup_epochs=5),
            precision="bf16",
        )
    )


def imagenet_scratch_recipe() -> ClassificationRecipe:
    """300 epochs of ImageNet from random weights, as the paper's PIIP-B (table 13).

    The paper gives the number of epochs; the rest is what DeiT is trained with (arXiv 2012.12877, table 9).
    """
    return ClassificationRecipe(
        training=TrainingConfig(
            epochs=300,
            batch_size=1024,
            optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.05),
            schedule=CosineSchedule(warmup_epochs=5),
            precision="bf16",
        ),
        augmentation=AugmentationConfig(random_erasing=0.25),
    )


def scratch_recipe() -> ClassificationRecipe:
    """For small models and little data, from random weights: a higher rate, few images in a batch, mild changes."""
    return ClassificationRecipe(
        training=TrainingConfig(
            epochs=10,
            batch_size=32,
            optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.05),
            schedule=CosineSchedule(warmup_epochs=0.5),
            clip_grad_norm=1.0,
            num_workers=2,
        ),
        augmentation=AugmentationConfig(scale=(0.8, 1.0), color_jitter=0.0, auto_augment=None),
        mixing=MixingConfig(mixup=0.0, cutmix=0.0, label_smoothing=0.1),
    )


def finetune_recipe() -> ClassificationRecipe:
    """For trained weights on little data: as from scratch, but at a rate that keeps what is there.

    Classifiers, which are new where the classes are, learn at ten times that rate.
    """
    recipe = scratch_recipe()
    optimizer = OptimizerConfig(lr=5e-5, weight_decay=0.05, lr_multipliers={"head": 10.0})
    return replace(recipe, training=replace(recipe.training, optimizer=optimizer))


RECIPES = {
    "released": released_recipe,
    "imagenet-scratch": imagenet_scratch_recipe,
    "scratch": scratch_recipe,
    "finetune": finetune_recipe,
}
"""The recipes that have a name."""


class ClassificationTask(Task[ClassificationModel]):
    """A classifier and a folder of labelled images.

    Args:
        model: to train, with as many classes as the data.
        recipe: how.
        data: images as data/train/CLASS/* and data/val/CLASS/*.

    Raises:
        ValueError: when the data are not there, or do not have the model's classes.
    """

    def __init__(self, model: ClassificationModel, recipe: ClassificationRecipe, data: Path) -> None:
        self.model = model
        self.recipe = recipe
        self.training = recipe.training
        self.score = "top1"
        preprocess, classes = model.config.preprocess, model.config.class_names or None
        train = open_image_folder(data, "train", recipe.augmentation.build(preprocess), classes)
        self.val_data: ImageFolder = open_image_folder(data, "val", preprocess.build(), train.class_names)
        if len(train.class_names) != model.config.head.num_classes:
            raise ValueError(
                f"{data}: has {len(train.class_names)} classes, and the model has {model.config.head.num_classes}"
            )
        self.train_data: IndexedDataset[tuple[Tensor, int]] = train
        self.num_val = len(self.val_data)
        self._mix = recipe.mixing.build(model.config.head.num_classes)

    def collate(self, samples: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        """Stack images and labels."""
        images, labels = default_collate(list(samples))
        return images, labels

    def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor], key: tuple[int, ...]) -> dict[str, Tensor]:
        """The cross entropy, after mixing the images and labels of the batch."""
        images, targets = self._mix(*batch, key)
        return model(images, targets)

    def evaluate(
        self, model: ClassificationModel, *, autocast: torch.dtype | None, progress: Callable[[int], None]
    ) -> dict[str, float]:
        """Top-1 and top-5 accuracy in per cent, and the loss.

        Images that cannot be read are left out, with a warning.
        """
        scores = evaluate(
            model,
            self.val_data,
            batch_size=_EVALUATION_BATCH,
            num_workers=self.training.num_workers,
            autocast=autocast,
            skip_unreadable=True,
            progress=progress,
        )
        figures = {"top1": scores.top1, "top5": scores.top5, "loss": scores.loss}
        return self.figures_of(scores.num_images, figures)
