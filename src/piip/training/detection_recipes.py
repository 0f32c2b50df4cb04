"""The recipes of detectors: those of the official configurations, by schedule and family, and two general ones."""

from piip.tasks.detection.augmentation import (
    DetectionAugmentationConfig,
    LargeScaleJitterConfig,
    MultiScaleConfig,
    SingleScaleConfig,
)
from piip.training.detection import DetectionRecipe
from piip.training.optimizer import Exempt, OptimizerConfig
from piip.training.recipe import TrainingConfig
from piip.training.schedule import CosineSchedule, StepSchedule


def coco_recipe(
    *,
    epochs: int = 12,
    milestones: tuple[int, int] = (8, 11),
    batch_size: int = 16,
    lr: float = 1e-4,
    layer_decay: float = 0.85,
    exempt: tuple[Exempt, ...] = ("vectors",),
    clip_grad_norm: float | None = None,
    augmentation: DetectionAugmentationConfig | None = None,
) -> DetectionRecipe:
    """An official schedule on COCO: AdamW, a warmup of 500 steps, and a tenth of the rate after each milestone.

    Args:
        epochs: 12 is "1x", 24 "2x", 36 "3x".
        milestones: epochs after which the rate drops.
        batch_size: images in a step.
        lr: base learning rate.
        layer_decay: per layer of the deepest branch; 1 for one rate.
        exempt: what is not decayed.
        clip_grad_norm: largest norm of the gradients, of the DINO configurations.
        augmentation: one scale by default.
    """
    return DetectionRecipe(
        training=TrainingConfig(
            epochs=epochs,
            batch_size=batch_size,
            optimizer=OptimizerConfig(lr=lr, weight_decay=0.05, exempt=exempt, layer_decay=layer_decay),
            schedule=StepSchedule(
                warmup_steps=500, warmup_start=1e-3, milestones=tuple(epoch / epochs for epoch in milestones)
            ),
            clip_grad_norm=clip_grad_norm,
            precision="bf16",
        ),
        augmentation=augmentation or SingleScaleConfig(),
    )


def vit_recipe() -> DetectionRecipe:
    """Of the official pyramids with ViT branches at one scale, 1x."""
    return coco_recipe()


def vit_3x_recipe() -> DetectionRecipe:
    """The same with several scales, 3x."""
    return coco_recipe(epochs=36, milestones=(27, 33), augmentation=MultiScaleConfig())


def vit_jitter_recipe() -> DetectionRecipe:
    """The 3x schedule with large-scale jitter, which the paper does not use."""
    return coco_recipe(epochs=36, milestones=(27, 33), augmentation=LargeScaleJitterConfig())


def vit_baseline_recipe() -> DetectionRecipe:
    """Of the official ViT-B and ViT-L, 1x."""
    return coco_recipe(layer_decay=0.95)


def convnext_recipe() -> DetectionRecipe:
    """Of the official pyramids with ConvNeXt branches, 1x; ConvNeXt layers keep the base rate."""
    return coco_recipe(lr=2e-4, layer_decay=0.8)


def convnext_baseline_recipe() -> DetectionRecipe:
    """Of the official ConvNeXt-B, 1x: one rate and decay for all parameters."""
    return coco_recipe(layer_decay=1.0, exempt=())


def internvit_recipe() -> DetectionRecipe:
    """Of the official PIIP-H6B, 1x with several scales."""
    return coco_recipe(augmentation=MultiScaleConfig())


def internvit_baseline_recipe() -> DetectionRecipe:
    """Of the official InternViT-6B, 1x with several scales."""
    return coco_recipe(layer_decay=0.95, augmentation=MultiScaleConfig())


def internvit_lh6b_recipe() -> DetectionRecipe:
    """Of the official PIIP-LH6B, 1x with several scales."""
    return coco_recipe(batch_size=32, lr=2e-4, augmentation=MultiScaleConfig())


def scratch_recipe() -> DetectionRecipe:
    """For small models and little data, from random weights: a higher rate, few images in a batch."""
    return DetectionRecipe(
        training=TrainingConfig(
            epochs=12,
            batch_size=8,
            optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.05),
            schedule=CosineSchedule(warmup_epochs=0.5),
            clip_grad_norm=5.0,
            num_workers=2,
        )
    )


def finetune_recipe() -> DetectionRecipe:
    """For a trained detector and other classes or little data: a short 1x at half the rate, few images in a batch."""
    return DetectionRecipe(
        training=TrainingConfig(
            epochs=12,
            batch_size=8,
            optimizer=OptimizerConfig(lr=5e-5, weight_decay=0.05, layer_decay=0.85),
            schedule=CosineSchedule(warmup_epochs=0.5),
            clip_grad_norm=5.0,
            num_workers=2,
        )
    )


RECIPES = {
    "vit-1x": vit_recipe,
    "vit-3x": vit_3x_recipe,
    "vit-jitter-3x": vit_jitter_recipe,
    "vit-baseline-1x": vit_baseline_recipe,
    "convnext-1x": convnext_recipe,
    "convnext-baseline-1x": convnext_baseline_recipe,
    "internvit-1x": internvit_recipe,
    "internvit-baseline-1x": internvit_baseline_recipe,
    "internvit-lh6b-1x": internvit_lh6b_recipe,
    "scratch": scratch_recipe,
    "finetune": finetune_recipe,
}
"""The recipes that have a name."""
