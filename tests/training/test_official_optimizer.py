"""Learning rates and weight decay of every parameter, against what the official optimizers give them."""

import gzip
import json
from typing import Any

import pytest
import torch
from torch import nn

from parity import DATA, load_case
from piip.tasks.detection.augmentation import MultiScaleConfig
from piip.training.detection import DetectionRecipe
from piip.training.kinds import kind_of
from piip.training.optimizer import OptimizerConfig, parameter_groups
from piip.training.schedule import StepSchedule
from piip.zoo import official
from piip.zoo.cards import find_card
from piip.zoo.official.keys import official_names
from zoo.released_detectors import backbone, dino

OFFICIAL = json.loads(gzip.decompress((DATA / "optimizer_groups_detection.json.gz").read_bytes()))
BASELINE = "mask_rcnn_convnext-base_1024_regular-fpn"  # plain AdamW: all of its parameters decay


def official_settings(name: str) -> dict[str, tuple[float, float]]:
    """Learning rate over the base rate, and weight decay, by official name."""
    own = OFFICIAL[name]
    own = OFFICIAL[own.get("same_as", name)]
    return {parameter: tuple(own["groups"][group]) for parameter, group in own["params"].items()}


def our_settings(name: str, model: nn.Module) -> dict[str, tuple[float, float]]:
    exempt = () if name == BASELINE else ("vectors",)
    config = OptimizerConfig(lr=1.0, weight_decay=0.05, exempt=exempt, layer_decay=OFFICIAL[name]["layer_decay"])
    names = official_names(model.state_dict(), model.config)
    return {
        names[own]: (group["lr"], group["weight_decay"])
        for group in parameter_groups(model, config)
        for own in group["names"]
    }


def build(name: str) -> nn.Module:
    """The model of an official configuration, on the meta device."""
    arguments: dict[str, Any] = backbone(name)
    with torch.device("meta"):
        channels = list(official.model_config(arguments, "detection").channels)
        if name.startswith("dino"):
            case, _ = load_case("dino_infer_three_deit")
            return official.build_model(dino(name, case["model"], channels), "detection")
        case, _ = load_case("maskrcnn_infer_three_deit")
        neck = {**case["model"]["neck"], "in_channels": channels}
        return official.build_model({**case["model"], "backbone": arguments, "neck": neck}, "detection")


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_parameter_has_its_official_rate_and_decay(name: str) -> None:
    expected, found = official_settings(name), our_settings(name, build(name))
    for parameter, values in found.items():
        assert values == pytest.approx(expected[parameter], rel=1e-9), parameter
    # What the official code owns and never uses.
    others = set(expected) - set(found)
    assert all("convnext_model.layernorm" in other or other.startswith("backbone.fpn1.") for other in others), others


def recipe_of(name: str) -> DetectionRecipe:
    return kind_of(find_card(name).config()).find_recipe(find_card(name).recipe)


@pytest.mark.parametrize("name", [name for name in OFFICIAL if name.startswith("dino")])
def test_dino_is_trained_at_several_scales_with_32_images_in_a_step(name: str) -> None:
    recipe = recipe_of(name)
    assert name.endswith("bs32_ms")
    assert recipe.training.batch_size == 32
    assert recipe.augmentation == MultiScaleConfig()


@pytest.mark.parametrize("name", OFFICIAL)
def test_recipes_have_the_official_schedules(name: str) -> None:
    settings, training = OFFICIAL[name], recipe_of(name).training
    schedule = training.schedule
    assert isinstance(schedule, StepSchedule)
    assert (training.epochs, training.clip_grad_norm) == (settings["epochs"], settings["clip"])
    assert [milestone * training.epochs for milestone in schedule.milestones] == pytest.approx(settings["milestones"])
    assert (training.optimizer.lr, training.optimizer.layer_decay) == (settings["lr"], settings["layer_decay"])
    assert (schedule.warmup_steps, schedule.warmup_start) == (500, 1e-3)
    assert training.batch_size == (32 if "bs32" in name else 16)
    assert training.optimizer.exempt == (() if name == BASELINE else ("vectors",))
