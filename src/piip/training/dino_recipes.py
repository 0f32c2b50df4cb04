"""The recipes of DINO: those of the official configurations, and two general ones."""

from dataclasses import replace

from piip.tasks.detection.augmentation import MultiScaleConfig
from piip.training.detection import DetectionRecipe
from piip.training.detection_recipes import coco_recipe, finetune_recipe, scratch_recipe

_CLIP_GRAD_NORM = 0.1


def _released(epochs: int, milestones: tuple[int, int]) -> DetectionRecipe:
    return coco_recipe(
        epochs=epochs,
        milestones=milestones,
        batch_size=32,
        lr=2e-4,
        clip_grad_norm=_CLIP_GRAD_NORM,
        augmentation=MultiScaleConfig(),
    )


def dino_1x_recipe() -> DetectionRecipe:
    """Of the official DINO on PIIP-H6B."""
    return _released(12, (8, 11))


def dino_2x_recipe() -> DetectionRecipe:
    """Of the official DINO on PIIP-LH6B."""
    return _released(24, (16, 22))


def dino_3x_recipe() -> DetectionRecipe:
    """Of the official DINO on PIIP-SBL."""
    return _released(36, (27, 33))


def _gently(recipe: DetectionRecipe) -> DetectionRecipe:
    """The gradients of DINO are large at first, when many queries are matched anew in each step."""
    return replace(recipe, training=replace(recipe.training, clip_grad_norm=_CLIP_GRAD_NORM))


def dino_scratch_recipe() -> DetectionRecipe:
    """For small models and little data, from random weights."""
    return _gently(scratch_recipe())


def dino_finetune_recipe() -> DetectionRecipe:
    """For a trained DINO and other classes or little data."""
    return _gently(finetune_recipe())


RECIPES = {
    "dino-1x": dino_1x_recipe,
    "dino-2x": dino_2x_recipe,
    "dino-3x": dino_3x_recipe,
    "scratch": dino_scratch_recipe,
    "finetune": dino_finetune_recipe,
}
"""The recipes that have a name."""
