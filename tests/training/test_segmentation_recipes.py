"""The recipes of segmentors, against the official schedules."""

import gzip
import json

import pytest

from parity import DATA
from piip.config import load_config, save_config
from piip.tasks.segmentation.augmentation import SegmentationAugmentationConfig
from piip.training.schedule import PolynomialSchedule
from piip.training.segmentation import SegmentationRecipe
from piip.training.segmentation_recipes import RECIPES, finetune_recipe, internvit_recipe, scratch_recipe, vit_recipe

OPTIMIZERS = json.loads(gzip.decompress((DATA / "optimizer_groups_segmentation.json.gz").read_bytes()))
PIPELINES = json.loads(gzip.decompress((DATA / "pipelines_segmentation.json.gz").read_bytes()))


@pytest.mark.parametrize("name", PIPELINES)
def test_the_released_models_have_the_official_schedule(name: str) -> None:
    official, optimizer = PIPELINES[name], OPTIMIZERS[OPTIMIZERS[name].get("same_as", name)]
    recipe = internvit_recipe()
    training, schedule = recipe.training, recipe.training.schedule
    assert official["runner"] == {"type": "IterBasedRunner", "max_iters": training.steps}
    assert training.batch_size == 16
    assert training.clip_grad_norm is None
    assert official["optimizer_config"] == {}
    assert training.optimizer.layer_decay == optimizer["layer_decay"]
    assert isinstance(schedule, PolynomialSchedule)
    assert official["lr_config"] == {
        "policy": "poly",
        "power": schedule.power,
        "min_lr": schedule.final,
        "warmup": "linear",
        "warmup_iters": schedule.warmup_steps,
        "warmup_ratio": schedule.warmup_start,
        "by_epoch": False,
    }
    assert recipe.augmentation == SegmentationAugmentationConfig()
    assert training.optimizer.lr == optimizer["lr"]
    assert list(training.optimizer.betas) == optimizer["betas"]
    assert f"bs{training.batch_size}" in name


def test_the_rate_is_the_official_one_in_every_step() -> None:
    schedule = internvit_recipe().training.schedule
    for step in (0, 10, 1499, 1500, 40_000, 79_999):
        regular = 1 - (step + 0.5) / 80_000  # ours is that of the middle of a step
        warmup = 1 - max(0.0, 1 - (step + 0.5) / 1500) * (1 - 1e-6)
        assert schedule.factor(step, 80_000, 1263) == pytest.approx(regular * warmup, rel=1e-9)


def test_the_recipes_of_the_paper_are_twice_as_long() -> None:
    for name, recipe in ((name, make().training) for name, make in RECIPES.items() if name.endswith("k")):
        assert recipe.steps == 1000 * int(name.partition("-")[2][:-1])
        assert recipe.evaluation_interval(steps_per_epoch=1263) * 10 == recipe.steps
    assert vit_recipe().training.steps == 2 * internvit_recipe().training.steps


def test_trained_weights_learn_slower_than_random_ones() -> None:
    assert finetune_recipe().training.optimizer.lr <= scratch_recipe().training.optimizer.lr / 10
    assert finetune_recipe().training.batch_size == scratch_recipe().training.batch_size


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_their_file(name: str, tmp_path) -> None:
    save_config(RECIPES[name](), tmp_path / "recipe.json")
    assert load_config(SegmentationRecipe, tmp_path / "recipe.json") == RECIPES[name]()
