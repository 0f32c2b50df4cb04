import math
from dataclasses import replace

import pytest

from piip.config import load_config, save_config
from piip.training.classification import ClassificationRecipe, finetune_recipe, released_recipe, scratch_recipe
from piip.training.detection_recipes import convnext_recipe
from piip.training.optimizer import OptimizerConfig
from piip.training.recipe import TrainingConfig
from piip.training.schedule import CosineSchedule, StepSchedule
from piip.training.segmentation_recipes import vit_recipe


def test_the_released_recipe_has_the_settings_of_the_paper():
    recipe = released_recipe()
    training, optimizer = recipe.training, recipe.training.optimizer
    assert (training.epochs, training.batch_size, training.clip_grad_norm) == (20, 1024, None)
    assert (optimizer.lr, optimizer.weight_decay, dict(optimizer.lr_multipliers)) == (
        3e-5,
        0.1,
        {"pyramid.interactions": 10.0},
    )
    assert training.schedule.warmup_epochs == 5
    assert (recipe.mixing.mixup, recipe.mixing.cutmix, recipe.mixing.label_smoothing) == (0.8, 1.0, 0.1)
    assert recipe.augmentation.auto_augment == "rand-m9-mstd0.5-inc1"
    assert (recipe.augmentation.color_jitter, recipe.augmentation.random_erasing) == (0.3, 0.0)


def test_trained_weights_learn_slower_than_random_ones():
    assert finetune_recipe().training.optimizer.lr <= scratch_recipe().training.optimizer.lr / 10
    assert finetune_recipe().training.batch_size == scratch_recipe().training.batch_size


@pytest.mark.parametrize("recipe", [released_recipe(), scratch_recipe(), finetune_recipe()])
def test_recipes_survive_their_file(recipe, tmp_path):
    save_config(recipe, tmp_path / "recipe.json")
    assert load_config(ClassificationRecipe, tmp_path / "recipe.json") == recipe


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 0},
        {"steps": 0, "epochs": None},
        {"epochs": 1, "steps": 1},
        {"epochs": None},
        {"batch_size": 0},
        {"accumulation": 0},
        {"log_every": 0},
        {"checkpoint_every": -1},
        {"keep_checkpoints": 0},
        {"evaluate_every": 0},
        {"seed": -1},
        {"num_workers": -1},
        {"clip_grad_norm": 0.0},
        {"clip_grad_norm": math.nan},
        {"ema_decay": 1.0},
        {"precision": "fp8"},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"training.{next(iter(settings))}"):
        TrainingConfig(**({"epochs": 1, "batch_size": 1, "optimizer": OptimizerConfig(lr=1.0)} | settings))


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (convnext_recipe, {"keep_empty": "no"}, "keep_empty: expected bool, got 'no'"),
        (convnext_recipe, {"evaluation_limit": 2.5}, "evaluation_limit: expected int, got 2.5"),
        (convnext_recipe, {"augmentation": "single"}, "augmentation: expected one of SingleScaleConfig, Multi"),
        (vit_recipe, {"evaluation_limit": "all"}, "evaluation_limit: expected int, got 'all'"),
        (released_recipe, {"mixing": None}, "mixing: expected the fields of MixingConfig, got None"),
        (CosineSchedule, {"warmup_steps": 1.5}, r"schedule\.warmup_steps: expected int, got 1.5"),
        (
            lambda: StepSchedule(milestones=(0.5,)),
            {"milestones": 0.5},
            r"schedule\.milestones: expected a list, got 0.5",
        ),
    ],
)
def test_values_of_another_type_are_refused(make, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(make(), **changes)


def test_a_length_is_told_in_epochs_or_in_steps():
    epochs = TrainingConfig(epochs=3, evaluate_every=2, batch_size=1, optimizer=OptimizerConfig(lr=1.0))
    assert [epochs.num_steps(10), epochs.evaluation_interval(10), epochs.checkpoint_interval(10)] == [30, 20, 10]
    steps = TrainingConfig(steps=30, evaluate_every=7, batch_size=1, optimizer=OptimizerConfig(lr=1.0))
    assert [steps.num_steps(10), steps.evaluation_interval(10), steps.checkpoint_interval(10)] == [30, 7, 7]


def test_evaluations_follow_the_unit_of_the_length():
    recipe = TrainingConfig(epochs=3, batch_size=1, optimizer=OptimizerConfig(lr=1.0))
    assert recipe.evaluation_interval(10) == recipe.checkpoint_interval(10) == 10
    recipe = replace(recipe, epochs=None, steps=500)
    assert recipe.evaluation_interval(10) == recipe.checkpoint_interval(10) == 50
    assert replace(recipe, steps=4).evaluation_interval(10) == 1
