"""The recipes of segmentors: those of the release and of the paper on ADE20K, and two general ones."""

from dataclasses import replace

from piip.tasks.segmentation.augmentation import SegmentationAugmentationConfig
from piip.training.optimizer import OptimizerConfig
from piip.training.recipe import TrainingConfig
from piip.training.schedule import CosineSchedule, PolynomialSchedule
from piip.training.segmentation import SegmentationRecipe


def ade20k_recipe(*, steps: int, layer_decay: float) -> SegmentationRecipe:
    """An official schedule on ADE20K: AdamW, a warmup of 1,500 steps, and a straight line down to 0.

    Args:
        steps: length of the training: 80,000 in the release, 160,000 in the paper.
        layer_decay: per layer of the deepest branch.
    """
    return SegmentationRecipe(
        training=TrainingConfig(
            steps=steps,
            batch_size=16,
            optimizer=OptimizerConfig(lr=4e-5, weight_decay=0.05, exempt=("vectors",), layer_decay=layer_decay),
            schedule=PolynomialSchedule(warmup_steps=1500, warmup_start=1e-6),
            precision="bf16",
            log_every=50,
        )
    )


def internvit_recipe() -> SegmentationRecipe:
    """Of the five released models, InternViT-6B and PIIP-H6B, 80,000 steps."""
    return ade20k_recipe(steps=80_000, layer_decay=0.95)


def internvit_160k_recipe() -> SegmentationRecipe:
    """Of the paper's PIIP-LH6B and InternViT-6B (table 3), 160,000 steps."""
    return ade20k_recipe(steps=160_000, layer_decay=0.95)


def vit_recipe() -> SegmentationRecipe:
    """Of the paper's PIIP-TSB and PIIP-SBL (table 5), 160,000 steps.

    Neither the paper nor the release tells how the rate decays over their layers; here it does as in the official
    detectors with the same branches.
    """
    return ade20k_recipe(steps=160_000, layer_decay=0.85)


def scratch_recipe() -> SegmentationRecipe:
    """For small models and little data, from random weights: a higher rate, few images in a batch, mild changes."""
    return SegmentationRecipe(
        training=TrainingConfig(
            epochs=12,
            batch_size=4,
            optimizer=OptimizerConfig(lr=2e-3, weight_decay=0.05),
            schedule=CosineSchedule(warmup_epochs=0.5),
            clip_grad_norm=5.0,
            num_workers=2,
        ),
        augmentation=SegmentationAugmentationConfig(factors=(0.75, 1.5), class_limit=1.0, colours=None),
    )


def finetune_recipe() -> SegmentationRecipe:
    """For a trained segmentor and other classes or little data: at a rate that keeps what is there, all changes."""
    recipe = scratch_recipe()
    optimizer = OptimizerConfig(lr=5e-5, weight_decay=0.05, layer_decay=0.85)
    training = replace(recipe.training, optimizer=optimizer)
    return SegmentationRecipe(training=training)


RECIPES = {
    "internvit-80k": internvit_recipe,
    "internvit-160k": internvit_160k_recipe,
    "vit-160k": vit_recipe,
    "scratch": scratch_recipe,
    "finetune": finetune_recipe,
}
"""The recipes that have a name."""
