"""The constructor dicts of official UperNets and segmentation backbones, and the names of their tensors."""

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from released_segmenters import backbone, segmenter

from parity import DATA, load_case
from piip import BackboneConfig, ConvMergingConfig, UperNet, UperNetConfig, simple_pyramid
from piip.config import ConfigError
from piip.tasks.segmentation.upernet import FCNHeadConfig, SlidingInference, UperHeadConfig, WholeInference
from piip.zoo import official
from piip.zoo.cards import find_card
from piip.zoo.official import ConversionError
from tiny_models import tiny_vit
from tiny_segmenter import tiny_segmenter

TWO, THREE = "upernet_infer_internvit_two", "upernet_infer_deit_three"
MANIFESTS = json.loads(gzip.decompress((DATA / "manifests_segmentation.json.gz").read_bytes()))


def released_shapes(name: str) -> dict[str, tuple[int, ...]]:
    own = MANIFESTS[name]
    shapes = own.get("state_dict") or MANIFESTS[own["same_as"]]["state_dict"] | own["changes"]
    return {key: tuple(shape) for key, shape in shapes.items()}


def meta_tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {
        key: torch.empty(shape, dtype=torch.int64 if key.endswith("tracked") else torch.float32, device="meta")
        for key, shape in shapes.items()
    }


@pytest.mark.parametrize("name", MANIFESTS)
@pytest.mark.parametrize("whole", [True, False])
def test_released_manifest(name: str, whole: bool) -> None:
    shapes = released_shapes(name)
    if not whole:
        shapes = {key.removeprefix("backbone."): own for key, own in shapes.items() if key.startswith("backbone.")}
    checkpoint = meta_tensors(shapes)
    with torch.device("meta"):
        model = official.build_model(segmenter(name) if whole else backbone(name), "segmentation")

    model.load_state_dict(official.convert_state_dict(checkpoint, model), strict=True, assign=True)

    exported = official.official_state_dict(model)
    assert {key: tuple(tensor.shape) for key, tensor in exported.items()} == shapes
    assert {key: tensor.dtype for key, tensor in exported.items()} == {key: t.dtype for key, t in checkpoint.items()}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == MANIFESTS[name]["num_params" if whole else "backbone_num_params"]

    with torch.device("meta"):
        of_card = find_card(name).config().build()
    of_card = of_card if whole else of_card.backbone
    of_card.load_state_dict(official.convert_state_dict(checkpoint, of_card), strict=True, assign=True)


def test_what_a_segmentation_branch_is() -> None:
    config = official.model_config(load_case(TWO)[0]["model"]["backbone"], "segmentation")
    assert isinstance(config, BackboneConfig)
    for branch, size in zip(config.pyramid.branches, (64, 128), strict=True):
        assert (branch.image_size, branch.pos_embed_grid, branch.class_pos_embed) == (size, size // 16, "unused")
        assert (branch.class_token, branch.drop_path_rule) == (False, "linear")
    assert (config.levels, config.pyramid.input_branch) == (simple_pyramid(4, 2, 1, 0.5), None)
    interaction = config.pyramid.interaction
    assert (interaction.projection, interaction.norm) == (False, False)


def test_fused_mlps_have_the_other_gelu() -> None:
    config = official.model_config(backbone("upernet_internvit_h6b_192_512"), "segmentation")
    assert [branch.gelu for branch in config.pyramid.branches] == ["tanh", "tanh"]


def test_three_branches_are_given_the_image_of_the_second() -> None:
    config = official.model_config(load_case(THREE)[0]["model"]["backbone"], "segmentation")
    assert (config.pyramid.input_branch, config.pyramid.image_size, config.pyramid.finest) == (2, 96, 3)


def test_heads_and_inference() -> None:
    config = official.model_config(load_case(TWO)[0]["model"], "segmentation")
    assert config == UperNetConfig(
        backbone=config.backbone,
        num_classes=150,
        decode_head=UperHeadConfig(channels=64),
        auxiliary_head=FCNHeadConfig(channels=48),
        inference=SlidingInference(crop=(128, 128), stride=(85, 85)),
    )


def edited(arguments: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The arguments with another value at a dotted path."""
    key, _, rest = path.partition(".")
    return {**arguments, key: edited(arguments[key], rest, value) if rest else value}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("backbone.type", "ResNetV1c", r"EncoderDecoder\.backbone\.type: 'ResNetV1c' is not an official backbone"),
        ("backbone.type", "PIIPFourBranch", r"backbone\.type: 'PIIPFourBranch' is not an official backbone"),
        ("backbone.is_dino", False, r"backbone: not known: is_dino"),
        ("backbone.branch2.img_size", 64, r"branch2\.img_size: 64, but real_size is 128"),
        (
            "backbone.branch1.pretrained",
            "beitv2.pth",
            r"branch1\.pretrained: 'beitv2\.pth' names a branch of kind beit",
        ),
        ("backbone.branch1.real_size", "64", r"branch1\.real_size: expected int, got '64'"),
        ("decode_head.type", "ASPPHead", r"decode_head\.type: expected 'UPerHead', got 'ASPPHead'"),
        ("decode_head.in_channels", [1, 2], r"decode_head\.in_channels: expected \[96, 96, 96, 96\], got \[1, 2\]"),
        ("decode_head.in_index", [0, 1, 2], r"decode_head\.in_index: expected \[0, 1, 2, 3\]"),
        ("decode_head.pool_scales", [0], r"EncoderDecoder: decode_head\.pool_scales: expected at least one"),
        ("decode_head.num_classes", 256, r"num_classes"),
        ("decode_head.norm_cfg.type", "GN", r"norm_cfg\.type: expected one of 'SyncBN', 'BN', got 'GN'"),
        ("decode_head.norm_cfg.requires_grad", False, r"norm_cfg\.requires_grad: expected one of True, got False"),
        ("decode_head.align_corners", True, r"decode_head\.align_corners: expected False, got True"),
        ("decode_head.sampler", {}, r"decode_head: not known: sampler"),
        ("decode_head.loss_decode.use_sigmoid", True, r"loss_decode\.use_sigmoid: expected False, got True"),
        ("decode_head.loss_decode.avg_non_ignore", True, r"loss_decode\.avg_non_ignore: expected one of False"),
        ("decode_head.loss_decode.class_weight", [1], r"loss_decode: not known: class_weight"),
        ("auxiliary_head.in_index", 4, r"auxiliary_head\.in_index: 4 is none of the backbone's 4 maps"),
        ("auxiliary_head.concat_input", True, r"auxiliary_head\.concat_input: expected False, got True"),
        ("auxiliary_head.num_classes", 19, r"auxiliary_head\.num_classes: expected 150, got 19"),
        ("train_cfg", {"work": 1}, r"train_cfg: not known: work"),
        ("test_cfg.mode", "both", r"test_cfg\.mode: expected one of 'whole', 'slide', got 'both'"),
        ("test_cfg.stride", [200, 200], r"EncoderDecoder: inference\.stride: expected from 1 to the crop's"),
        ("neck", {}, r"EncoderDecoder: not known: neck"),
    ],
)
def test_unknown_arguments_are_refused(path: str, value: Any, message: str) -> None:
    arguments = edited(load_case(TWO)[0]["model"], path, value)
    with pytest.raises(ConfigError, match=message):
        official.model_config(arguments, "segmentation")


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("decode_head.dropout_ratio", 0, lambda config: config.decode_head.dropout == 0),
        ("decode_head.loss_decode.loss_weight", 2, lambda config: config.decode_head.loss_weight == 2),
        ("decode_head.norm_cfg.type", "SyncBN", lambda config: config.decode_head.channels == 64),
        ("auxiliary_head.num_convs", 2, lambda config: config.auxiliary_head.num_convs == 2),
        ("auxiliary_head.in_index", 1, lambda config: config.auxiliary_head.level == 1),
        ("auxiliary_head", None, lambda config: config.auxiliary_head is None),
        ("test_cfg", {"mode": "whole"}, lambda config: config.inference == WholeInference()),
        (
            "backbone.branch1.pretrain_img_size",
            224,
            lambda config: config.backbone.pyramid.branches[0].image_size == 64,
        ),
    ],
)
def test_other_values_are_taken_over(path: str, value: Any, field: Any) -> None:
    arguments = edited(load_case(TWO)[0]["model"], path, value)
    assert field(official.model_config(arguments, "segmentation"))


def test_misfits_are_listed_with_the_names_of_the_whole_model() -> None:
    case, _ = load_case(TWO)
    with torch.device("meta"):
        model = official.build_model(case["model"], "segmentation")
        checkpoint = {key: torch.empty(shape) for key, shape in case["state_dict"].items()}
    del checkpoint["decode_head.psp_modules.2.1.bn.running_mean"]
    checkpoint["auxiliary_head.conv_seg.weight"] = torch.empty(19, 48, 1, 1)
    checkpoint["backbone.branch3.pos_embed"] = torch.empty(1)
    with pytest.raises(ConversionError) as caught:
        official.convert_state_dict(checkpoint, model)
    message = str(caught.value)
    assert "missing (1): decode_head.psp_modules.2.1.bn.running_mean" in message
    assert "unexpected (1): backbone.branch3.pos_embed" in message
    assert "of another shape (1): auxiliary_head.conv_seg.weight (19, 48, 1, 1), expected (150, 48, 1, 1)" in message


def tiny(
    sizes: tuple[int, ...] = (64, 96), stored: int | None = None, input_branch: int | None = None, **changes: Any
) -> UperNet:
    branches = tuple(tiny_vit(image_size=size, class_token=False, pos_embed_size=stored) for size in sizes)
    backbone = tiny_segmenter().backbone
    pyramid = replace(backbone.pyramid, branches=branches, input_branch=input_branch)
    return tiny_segmenter(backbone=replace(backbone, pyramid=pyramid, **changes)).build()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": simple_pyramid(2, 1, 0.5)}, r"levels: .*; officially the last stage at the scales 4, 2, 1, 1/2"),
        ({"merging": ConvMergingConfig(form="light")}, r"merging\.form: 'light'; officially 'deep'"),
        ({"input_branch": 1}, r"input_branch: 1; officially the last branch is given the image"),
        ({"sizes": (64, 96, 128)}, r"input_branch: None; officially branch 2 of three"),
        ({"sizes": (64, 96, 96, 96)}, r"branches: 4; officially there are one to three in segmentation"),
        ({"stored": 64}, r"branch 2, pos_embed_size: 64; officially that of its image"),
    ],
)
def test_models_that_there_are_not_officially(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        official.official_state_dict(tiny(**changes))


def test_three_branches_that_there_are_officially() -> None:
    case, _ = load_case(THREE)
    with torch.device("meta"):
        model = official.build_model(case["model"], "segmentation")
    assert isinstance(model, UperNet)
    exported = official.official_state_dict(model)
    assert {key: list(tensor.shape) for key, tensor in exported.items()} == case["state_dict"]
    backbone_alone = official.official_state_dict(model.backbone)
    assert {f"backbone.{key}" for key in backbone_alone} == {key for key in exported if key.startswith("backbone.")}
