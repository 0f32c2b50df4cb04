"""The models that have a name: what is published of them, and that they are it."""

import math

import pytest
import torch

from piip import list_models
from piip.config import from_dict, to_dict
from piip.tasks.classification.heads import SeparateHeadsConfig
from piip.tasks.classification.model import ClassificationConfig
from piip.tasks.classification.names import imagenet_synsets
from piip.tasks.detection.mask_rcnn.model import MaskRCNNConfig
from piip.zoo.cards import UnknownModelError, find_card

RELEASED = list_models("piip_3branch_*")
DETECTORS = list_models("mask_rcnn_deit_*")


def test_names_and_patterns() -> None:
    assert len(RELEASED) == len(DETECTORS) == 3
    demos = ["piip_demo_shapes_96-48-32", "mask_rcnn_demo_shapes_192-96-64", "dino_demo_shapes_192-96-64"]
    assert list_models() == sorted([*RELEASED, *DETECTORS, *demos])
    assert list_models("*sbl*") == [name for name in RELEASED if "sbl" in name]
    assert list_models("nothing*") == []


@pytest.mark.parametrize("name", DETECTORS)
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


@pytest.mark.parametrize("name", [*RELEASED, "piip_demo_shapes_96-48-32"])
def test_a_card_gives_a_model(name: str) -> None:
    card = find_card(name)
    config = card.config()
    assert card.name == name
    assert card.task == "classification"
    assert isinstance(config, ClassificationConfig)
    assert from_dict(ClassificationConfig, to_dict(config)) == config
    assert config.preprocess.input_size == config.pyramid.image_size
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


def test_unknown_names() -> None:
    with pytest.raises(UnknownModelError, match="there is no 'piip_demo_shapes'; did you mean 'piip_demo_shapes_96"):
        find_card("piip_demo_shapes")
    with pytest.raises(UnknownModelError, match="there are dino_demo_shapes_192-96-64, mask_rcnn_deit"):
        find_card("resnet50")
