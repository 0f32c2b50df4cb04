"""The models that have a name: what is published of them, and that they are it."""

import gzip
import json
import math
import re
from typing import get_args

import pytest
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from parity import DATA
from piip import list_models
from piip.config import from_dict, to_dict
from piip.tasks.classification.heads import SeparateHeadsConfig
from piip.tasks.classification.model import ClassificationConfig
from piip.tasks.classification.names import imagenet_synsets
from piip.tasks.detection.augmentation import DetectionPreprocessConfig
from piip.tasks.detection.detector import DetectorConfig
from piip.tasks.detection.mask_rcnn.model import MaskRCNNConfig
from piip.training import classification
from piip.training.kinds import kind_of
from piip.zoo.cards import Task, UnknownModelError, find_card

RELEASED = list_models("piip_3branch_*")
DETECTORS = [name for name in list_models("mask_rcnn_*") if "shapes" not in name]
DINOS = list_models("dino_4scale_*")
TSB_DETECTORS = list_models("mask_rcnn_deit_tsb_*")
PIPELINES = json.loads(gzip.decompress((DATA / "pipelines_detection.json.gz").read_bytes()))


def test_names_and_patterns() -> None:
    assert len(RELEASED) == len(TSB_DETECTORS) == 3
    assert len(DETECTORS) == 30
    demos = ["piip_demo_shapes_96-48-32", "mask_rcnn_demo_shapes_192-96-64", "dino_demo_shapes_192-96-64"]
    segmentors = list_models(task="segmentation")
    assert list_models() == sorted({*RELEASED, *DETECTORS, *DINOS, *demos, *segmentors, *list_models("paper_*")})
    assert list_models("piip*sbl*") == [name for name in RELEASED if "sbl" in name]
    assert list_models("nothing*") == []
    of_tasks = [name for task in get_args(Task) for name in list_models(task=task)]
    assert sorted(of_tasks) == list_models()
    assert list_models("*tsb*", task="classification") == [name for name in RELEASED if "tsb" in name]


def test_patterns_that_are_none() -> None:
    for pattern in (None, 5, ["*tsb*"]):
        with pytest.raises(ValueError, match=r"pattern: expected one such as '\*tsb\*', or '\*' for all; got "):
            list_models(pattern)


@pytest.mark.parametrize("name", [*DETECTORS, *DINOS])
def test_released_detectors_prepare_images_as_officially(name: str) -> None:
    (prepare,) = (step for step in PIPELINES[name]["test"] if step["type"] == "MultiScaleFlipAug")
    steps = {step["type"]: step for step in prepare["transforms"]}
    config = find_card(name).config().preprocess
    assert isinstance(config, DetectionPreprocessConfig)
    assert config.scale == tuple(prepare["img_scale"])
    assert config.size_divisor == steps["Pad"]["size_divisor"]
    assert [255 * value for value in config.mean] == pytest.approx(steps["Normalize"]["mean"])
    assert [255 * value for value in config.std] == pytest.approx(steps["Normalize"]["std"])


@pytest.mark.parametrize("name", [*DETECTORS, *DINOS, *list_models("paper_mask_rcnn_*")])
def test_cards_of_detectors_are_consistent(name: str) -> None:
    card, config = find_card(name), find_card(name).config()
    assert isinstance(config, DetectorConfig)
    assert from_dict(type(config), to_dict(config)) == config
    branches = config.backbone.pyramid.branches
    assert len(card.pretraining) == len(branches)
    assert card.recipe in kind_of(config).recipes
    # Each branch is named with its size in pixels, and with the letter of its model.
    assert [int(word) for word in re.findall(r" (\d{3,})", card.summary)] == [branch.image_size for branch in branches]


@pytest.mark.parametrize("name", TSB_DETECTORS)
def test_released_detectors_are_what_is_published(name: str) -> None:
    card = find_card(name)
    config, published = card.config(), card.published
    assert isinstance(config, MaskRCNNConfig)
    assert published is not None
    assert from_dict(MaskRCNNConfig, to_dict(config)) == config
    with torch.device("meta"):
        pyramid = config.build().backbone.pyramid
    params = sum(parameter.numel() for parameter in pyramid.parameters())
    # The published number is that of a classifier of the same branches: it has a merging and a head, of less than three
    # million parameters, and positions for the branches' own image sizes.
    positions = sum(branch.embed_dim * (branch.image_size // 16) ** 2 for branch in config.backbone.pyramid.branches)
    stored = sum(branch.pos_embed.numel() for branch in pyramid.branches)
    assert 0 < published.params - (params + positions - stored) / 1e6 < 3
    sizes = [int(size) for size in name.split("_")[4:7]]
    assert [branch.image_size for branch in reversed(config.backbone.pyramid.branches)] == sizes
    assert config.preprocess.scale[0] == sizes[0]
    assert len(config.class_names) == config.num_classes == 80
    assert config.class_names[0] == "person"


@pytest.mark.parametrize("name", list_models(task="classification"))
def test_a_card_gives_a_model(name: str) -> None:
    card = find_card(name)
    config = card.config()
    assert card.name == name
    assert card.task == "classification"
    assert isinstance(config, ClassificationConfig)
    assert from_dict(ClassificationConfig, to_dict(config)) == config
    assert config.preprocess.input_size == config.pyramid.image_size
    assert (config.preprocess.mean, config.preprocess.std) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    assert config.class_names == imagenet_synsets()
    assert len(set(config.class_names)) == config.head.num_classes == 1000
    with torch.device("meta"):
        model = config.build()
        assert model(torch.empty(1, 3, config.pyramid.image_size, config.pyramid.image_size))["logits"].shape[1] == 1000


@pytest.mark.parametrize("name", RELEASED)
def test_released_models_are_what_is_published(name: str) -> None:
    card = find_card(name)
    config, published = card.config(), card.published
    assert published is not None
    assert isinstance(config, ClassificationConfig)
    assert isinstance(config.head, SeparateHeadsConfig)
    with torch.device("meta"):
        params = sum(parameter.numel() for parameter in config.build().parameters())
    assert math.floor(params / 1e6 + 0.5) == published.params
    # The name has the image sizes from the largest, the branches stand from the largest model.
    sizes = [int(size) for size in name.split("_")[3].split("-")]
    assert [branch.image_size for branch in reversed(config.pyramid.branches)] == sizes
    assert len(card.pretraining) == len(config.pyramid.branches)
    widths = [branch.embed_dim for branch in config.pyramid.branches]
    assert widths == sorted(widths, reverse=True)
    assert config.head.reads == "first_patch"
    assert config.preprocess.crop_ratio == 1.0
    assert config.preprocess.interpolation == "bicubic"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("piip_demo_shapes", "; did you mean 'piip_demo_shapes_96-48-32'?"),
        ("piip_demo_shapes_96_48_32", "; did you mean 'piip_demo_shapes_96-48-32'?"),
        ("mask_rcnn_deit_tsb_1120_896_448", "; did you mean 'mask_rcnn_deit_tsb_1120_896_448_fpn_1x_coco_bs16'?"),
        ("MASK_RCNN_demo_shapes_192-96-64", "; did you mean 'mask_rcnn_demo_shapes_192-96-64'?"),
        (
            "demo",
            "; did you mean 'piip_demo_shapes_96-48-32', 'dino_demo_shapes_192-96-64' or "
            "'upernet_demo_shapes_192-96-64'?",
        ),
        ("resnet50", ""),
        ("", ""),
    ],
)
def test_unknown_names(name: str, hint: str) -> None:
    with pytest.raises(UnknownModelError) as error:
        find_card(name)
    assert str(error.value) == f"model: there is no {name!r}{hint} (`piip models` shows all)"


def test_the_model_that_the_paper_trains_from_scratch() -> None:
    card = find_card("paper_piip_b_512-256-128_from_scratch")
    with torch.device("meta"):
        model = card.config().build()
    parts = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in model.pyramid.named_children()}
    assert parts["interactions"] == pytest.approx(21.2, abs=0.05)
    sizes = [sum(p.numel() for p in branch.parameters()) / 1e6 for branch in model.pyramid.branches]
    assert sizes == pytest.approx([59.6, 15.1, 4.0], abs=0.05)
    assert card.recipe in classification.RECIPES


def test_what_the_release_has_weights_of() -> None:
    cards = [find_card(name) for name in list_models()]
    released = [card for card in cards if card.released]
    assert len(released) == 3 + 30 + 3 + 5  # classifiers, Mask R-CNNs, DINOs, UperNets
    assert {card.checkpoint for card in released} == {f"{card.task}/{card.name}.pth" for card in released}
    for card in cards:
        assert card.released != (card.name.startswith("paper_") or "demo" in card.name)
        assert card.licence == ("MIT" if card.released else None)
        assert card.released or card.checkpoint is None
        assert bool(card.weights_notice) == any("MAE" in pretraining for pretraining in card.pretraining)


def test_there_are_models_of_some_tasks_only() -> None:
    with pytest.raises(ValueError, match="task: there is no 'detect'; did you mean 'detection'"):
        list_models(task="detect")


def test_every_subset_of_three_branches_can_be_merged() -> None:
    cards = [find_card(name) for name in list_models("paper_mask_rcnn_*_merge_*")]
    assert {(card.table, card.published) for card in cards} == {("", None)}  # what is printed of them is not at hand
    configs = {card.name.rpartition("_")[2]: card.config() for card in cards}
    assert {letters: config.backbone.merging.branches for letters, config in configs.items()} == {
        "b": (1,),
        "s": (2,),
        "t": (3,),
        "bs": (1, 2),
        "bt": (1, 3),
        "st": (2, 3),
    }
