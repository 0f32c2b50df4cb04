"""Learning rates and weight decay of every parameter, against what the official optimizers give them."""

import gzip
import json
from typing import Any

import pytest
import torch
from torch import nn

from parity import DATA, load_case
from piip.training.detection import DetectionRecipe
from piip.training.detection_recipes import RECIPES, coco_recipe
from piip.training.optimizer import OptimizerConfig, parameter_groups
from piip.training.schedule import StepSchedule
from piip.zoo import official
from piip.zoo.cards import find_card
from piip.zoo.official.keys import official_names
from zoo.released_detectors import backbone

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


def build(name: str) -> tuple[nn.Module, str]:
    """The model of an official configuration, on the meta device, and what stands before its official names."""
    arguments: dict[str, Any] = backbone(name)
    with torch.device("meta"):
        model = official.build_model(arguments, "detection")
        if name.startswith("dino"):
            return model, "backbone."
        detector, _ = load_case("maskrcnn_infer_three_deit")
        neck = {**detector["model"]["neck"], "in_channels": list(model.channels)}
        return official.build_model({**detector["model"], "backbone": arguments, "neck": neck}, "detection"), ""


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_parameter_has_its_official_rate_and_decay(name: str) -> None:
    model, prefix = build(name)
    expected = official_settings(name)
    found = {prefix + parameter: values for parameter, values in our_settings(name, model).items()}
    for parameter, values in found.items():
        assert values == pytest.approx(expected[parameter], rel=1e-9), parameter
    others = {parameter for parameter in set(expected) - set(found) if parameter.startswith("backbone.") or not prefix}
    # What the official code owns and never uses.
    assert all("convnext_model.layernorm" in other or other.startswith("backbone.fpn1.") for other in others), others


def recipe_of(name: str) -> DetectionRecipe:
    if not name.startswith("dino"):
        return RECIPES[find_card(name).recipe]()
    settings = OFFICIAL[name]
    return coco_recipe(
        epochs=settings["epochs"],
        milestones=settings["milestones"],
        lr=settings["lr"],
        layer_decay=settings["layer_decay"],
        clip_grad_norm=settings["clip"],
    )


@pytest.mark.parametrize("name", OFFICIAL)
def test_recipes_have_the_official_schedules(name: str) -> None:
    settings, training = OFFICIAL[name], recipe_of(name).training
    schedule = training.schedule
    assert isinstance(schedule, StepSchedule)
    assert (training.epochs, training.clip_grad_norm) == (settings["epochs"], settings["clip"])
    assert [milestone * training.epochs for milestone in schedule.milestones] == pytest.approx(settings["milestones"])
    assert (training.optimizer.lr, training.optimizer.layer_decay) == (settings["lr"], settings["layer_decay"])
    assert (schedule.warmup_steps, schedule.warmup_start) == (500, 1e-3)
    assert training.batch_size == (32 if "bs32" in name and not name.startswith("dino") else 16)
    assert training.optimizer.exempt == (() if name == BASELINE else ("vectors",))
