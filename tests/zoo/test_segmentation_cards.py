"""The named segmentors: that they are the official ones, and prepare images as these do."""

import gzip
import json
from dataclasses import replace

import pytest
import torch
from released_segmenters import segmenter

from parity import DATA
from piip import UperNetConfig, list_models
from piip.config import from_dict, to_dict
from piip.tasks.segmentation.upernet import SlidingInference
from piip.training.segmentation_recipes import RECIPES
from piip.zoo import official
from piip.zoo.cards import find_card

RELEASED = list_models("upernet_internvit_*")
PAPER = list_models("paper_upernet_*")
PIPELINES = json.loads(gzip.decompress((DATA / "pipelines_segmentation.json.gz").read_bytes()))


def config_of(name: str) -> UperNetConfig:
    config = find_card(name).config()
    assert isinstance(config, UperNetConfig)
    return config


def test_names() -> None:
    assert len(RELEASED) == 5
    assert len(PAPER) == 8  # of tables 3 and 5
    assert {*RELEASED, *PAPER} <= set(list_models(task="segmentation"))


@pytest.mark.parametrize("name", RELEASED)
def test_released_segmentors_are_the_official_ones(name: str) -> None:
    config, theirs = config_of(name), official.model_config(segmenter(name), "segmentation")
    assert isinstance(theirs, UperNetConfig)
    # What the official dict does not tell, and drop paths, of which the released ones are not known.
    ours = replace(config, class_names=(), palette=())
    pyramid = ours.backbone.pyramid
    branches = tuple(
        replace(branch, drop_path=other.drop_path)
        for branch, other in zip(pyramid.branches, theirs.backbone.pyramid.branches, strict=True)
    )
    backbone = replace(ours.backbone, pyramid=replace(pyramid, branches=branches))
    assert replace(ours, backbone=backbone) == theirs


@pytest.mark.parametrize("name", RELEASED)
def test_released_segmentors_prepare_images_as_officially(name: str) -> None:
    (prepare,) = (step for step in PIPELINES[name]["test"] if step["type"] == "MultiScaleFlipAug")
    (normalise,) = (step for step in prepare["transforms"] if step["type"] == "Normalize")
    config = config_of(name).preprocess
    assert config.short_side == min(prepare["img_scale"])
    assert [255 * value for value in config.mean] == pytest.approx(normalise["mean"])
    assert [255 * value for value in config.std] == pytest.approx(normalise["std"])


@pytest.mark.parametrize("name", RELEASED)
def test_released_segmentors_have_the_published_parameters(name: str) -> None:
    published = find_card(name).published
    assert published is not None
    with torch.device("meta"):
        params = sum(parameter.numel() for parameter in config_of(name).build().backbone.pyramid.parameters())
    # The published number is that of a classifier of the same branches, with merging, norm and head.
    assert 0 < published.params - params / 1e6 < 8


@pytest.mark.parametrize("name", [*RELEASED, *PAPER])
def test_cards_are_consistent(name: str) -> None:
    card, config = find_card(name), config_of(name)
    assert from_dict(UperNetConfig, to_dict(config)) == config
    branches = config.backbone.pyramid.branches
    assert len(card.pretraining) == len(branches) or "the pretraining" in card.assumed
    assert card.recipe in RECIPES
    named = [int(word) for word in card.summary.replace(",", "").split() if word.isdigit()]
    assert named == [branch.image_size for branch in branches]
    assert all(f"_{branch.image_size}_" in f"{name}_" for branch in branches)
    assert len(config.class_names) == len(config.palette) == config.num_classes == 150
    assert config.class_names[0] == "wall"
    side = config.backbone.pyramid.image_size
    assert isinstance(config.inference, SlidingInference)
    assert (config.inference.crop, config.preprocess.short_side) == ((side, side), side)
