"""The constructor dicts of official Mask R-CNNs, and the names of their tensors."""

import gzip
import json
from typing import Any

import pytest
import torch
from released_detectors import backbone, edited

from parity import DATA, load_case
from piip.branches import AnyBranchConfig
from piip.config import ConfigError, to_dict
from piip.tasks.detection.mask_rcnn import MaskRCNNConfig
from piip.zoo import official
from piip.zoo.cards import find_card
from piip.zoo.official import ConversionError

THREE_DEIT = "maskrcnn_infer_three_deit"
BACKBONES = json.loads(gzip.decompress((DATA / "manifests_detection_backbone.json.gz").read_bytes()))
DETECTORS = json.loads(gzip.decompress((DATA / "manifests_mask_rcnn.json.gz").read_bytes()))


def released_arguments(name: str, channels: list[int]) -> dict[str, Any]:
    """The constructor dict of a released configuration: but for the backbone, all of them are that of the cases."""
    (case, _) = load_case(THREE_DEIT)
    neck = {**case["model"]["neck"], "in_channels": channels}
    return {**case["model"], "backbone": backbone(name), "neck": neck}


def released_shapes(name: str, backbone_name: str | None = None) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a released model, by their official names."""
    model_manifest = DETECTORS["models"][name]
    of_backbone = BACKBONES[backbone_name or name]
    of_backbone = BACKBONES[of_backbone.get("same_as", backbone_name or name)]
    shapes = {f"backbone.{key}": tuple(shape) for key, shape in of_backbone["state_dict"].items()}
    for key, shape in DETECTORS["heads"].items():
        level = int(key.split(".")[2]) if key.startswith("neck.lateral") else 0
        shapes[key] = tuple(model_manifest["in_channels"][level] if size is None else size for size in shape)
    return shapes


@pytest.mark.parametrize("name", DETECTORS["models"])
def test_released_manifest(name: str) -> None:
    model_manifest, shapes = DETECTORS["models"][name], released_shapes(name)
    with torch.device("meta"):
        checkpoint = {key: torch.empty(shape) for key, shape in shapes.items()}
        arguments = released_arguments(name, model_manifest["in_channels"])
        model = official.build_model(arguments, "detection", checkpoint if "tsbl" in name else None)

    model.load_state_dict(official.convert_state_dict(checkpoint, model), strict=True, assign=True)

    exported = official.official_state_dict(model)
    assert {key: tuple(tensor.shape) for key, tensor in exported.items()} == shapes
    parameters = sum(tensor.numel() for tensor in exported.values() if tensor.is_floating_point())
    assert parameters == model_manifest["num_params"]


def told_settings(branch: AnyBranchConfig) -> dict[str, Any]:
    """The settings that follow from names, shapes and the arguments of these tests."""
    return {name: value for name, value in to_dict(branch).items() if name not in ("window_size", "drop_path", "gelu")}


@pytest.mark.parametrize("name", DETECTORS["models"])
def test_every_manifest_has_a_card(name: str) -> None:
    card = find_card(name)
    config = (card.variants[0] if card.variants else card.config)()  # what the official code builds of four branches
    with torch.device("meta"):
        checkpoint = {key: torch.empty(shape) for key, shape in released_shapes(name).items()}
        model = config.build()
        arguments = released_arguments(name, list(model.backbone.channels))
    model.load_state_dict(official.convert_state_dict(checkpoint, model), strict=True, assign=True)
    assert official.official_state_dict(model).keys() == checkpoint.keys()
    told = official.model_config(arguments, "detection", checkpoint)
    for ours, theirs in zip(config.backbone.pyramid.branches, told.backbone.pyramid.branches, strict=True):
        same_size = {} if len(told.backbone.pyramid.branches) > 1 else {"image_size": ours.image_size}  # none is told
        assert told_settings(ours) == told_settings(theirs) | same_size
    assert config.backbone.levels == told.backbone.levels
    assert config.backbone.merging == told.backbone.merging


@pytest.mark.parametrize("name", [name for name in DETECTORS["models"] if "tsbl" in name])
def test_checkpoints_whose_fourth_branch_is_tiny_fit_too(name: str) -> None:
    (variant,) = find_card(name).variants
    with torch.device("meta"):
        checkpoint = {key: torch.empty(shape) for key, shape in released_shapes(name, f"{name}.intended").items()}
        model = find_card(name).config().build()
        with pytest.raises(ConversionError, match=r"backbone\.branch4\.pos_embed \(1, 196, 192\)"):
            official.convert_state_dict(checkpoint, variant().build())
    model.load_state_dict(official.convert_state_dict(checkpoint, model), strict=True, assign=True)


def test_configuration_of_the_release_is_the_default() -> None:
    config = official.model_config(load_case(THREE_DEIT)[0]["model"], "detection")
    assert config == MaskRCNNConfig(backbone=config.backbone)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("backbone.type", "ResNet", r"MaskRCNN\.backbone\.type: 'ResNet' is not an official backbone"),
        ("backbone.n_points", None, r"backbone\.n_points: is missing"),
        ("neck.type", "PAFPN", r"MaskRCNN\.neck\.type: expected 'FPN', got 'PAFPN'"),
        ("neck.in_channels", [1, 2, 3, 4], r"neck\.in_channels: expected \[96, 96, 96, 96\], got \[1, 2, 3, 4\]"),
        ("neck.add_extra_convs", "on_input", r"neck: not known: add_extra_convs"),
        ("neck", None, r"MaskRCNN\.neck: is missing"),
        ("rpn_head.feat_channels", 128, r"rpn_head\.feat_channels: expected 256, got 128"),
        ("rpn_head.anchor_generator.strides", [4, 8], r"anchor_generator\.strides: expected \[4, 8, 16, 32, 64\]"),
        ("rpn_head.anchor_generator.scales", [-8], r"MaskRCNN: anchors\.scales: expected positive numbers"),
        ("rpn_head.bbox_coder.target_means", [0, 0, 0, 1], r"bbox_coder\.target_means: expected \[0, 0, 0, 0\]"),
        ("rpn_head.loss_bbox.type", "SmoothL1Loss", r"rpn_head\.loss_bbox\.type: expected 'L1Loss'"),
        ("rpn_head.loss_cls.loss_weight", 2.0, r"loss_cls\.loss_weight: expected 1\.0, got 2\.0"),
        ("roi_head.bbox_head.reg_class_agnostic", True, r"reg_class_agnostic: expected False, got True"),
        ("roi_head.bbox_head.num_classes", 3, r"mask_head\.num_classes: expected 3, got 80"),
        ("roi_head.mask_head.loss_dice", {}, r"mask_head: not known: loss_dice"),
        ("roi_head.bbox_roi_extractor.roi_layer.sampling_ratio", 2, r"roi_layer\.sampling_ratio: expected 0, got 2"),
        ("train_cfg.rpn.assigner.type", "ATSSAssigner", r"assigner\.type: expected 'MaxIoUAssigner'"),
        ("train_cfg.rpn.sampler.num", "many", r"sampler\.num: expected int, got 'many'"),
        ("train_cfg.rcnn.mask_size", 56, r"train_cfg\.rcnn\.mask_size: expected 28, got 56"),
        ("train_cfg.rcnn.pos_weight", 2, r"train_cfg\.rcnn\.pos_weight: expected -1, got 2"),
        ("test_cfg.rcnn.nms.type", "soft_nms", r"test_cfg\.rcnn\.nms\.type: expected 'nms', got 'soft_nms'"),
        ("test_cfg.rcnn.mask_thr_binary", 0.4, r"mask_thr_binary: expected 0\.5, got 0\.4"),
        ("test_cfg.rcnn.score_thr", 1.5, r"MaskRCNN: box_head\.score_threshold: expected from 0"),
        ("test_cfg.tta", {}, r"test_cfg: not known: tta"),
        ("semantic_head", {}, r"MaskRCNN: not known: semantic_head"),
    ],
)
def test_unknown_arguments_are_refused(path: str, value: Any, message: str) -> None:
    arguments = edited(load_case(THREE_DEIT)[0]["model"], path, value)
    with pytest.raises(ConfigError, match=message):
        official.model_config(arguments, "detection")


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("test_cfg.rcnn.score_thr", 0, lambda config: config.box_head.score_threshold == 0),
        ("test_cfg.rpn.nms_pre", 500, lambda config: config.rpn.proposals.per_level == 500),
        ("train_cfg.rpn_proposal.max_per_img", 300, lambda config: config.rpn.training_proposals.count == 300),
        ("train_cfg.rcnn.assigner.match_low_quality", False, lambda c: c.box_head.matcher.low_quality_iou is None),
        ("train_cfg.rpn.sampler.pos_fraction", 0.25, lambda config: config.rpn.sampler.positive_fraction == 0.25),
        ("rpn_head.anchor_generator.ratios", (1,), lambda config: config.rpn.anchors.ratios == (1.0,)),
        ("roi_head.mask_head.num_convs", 2, lambda config: config.mask_head.num_convs == 2),
    ],
)
def test_other_values_are_taken_over(path: str, value: Any, field: Any) -> None:
    arguments = edited(load_case(THREE_DEIT)[0]["model"], path, value)
    assert field(official.model_config(arguments, "detection"))


def test_misfits_are_listed_with_the_names_of_the_whole_model() -> None:
    case, _ = load_case(THREE_DEIT)
    with torch.device("meta"):
        model = official.build_model(case["model"], "detection")
        checkpoint = {key: torch.empty(shape) for key, shape in case["state_dict"].items()}
    del checkpoint["rpn_head.rpn_cls.bias"]
    checkpoint["roi_head.bbox_head.fc_cls.weight"] = torch.empty(21, 1024)
    checkpoint["backbone.branch4.pos_embed"] = torch.empty(1)
    with pytest.raises(ConversionError) as caught:
        official.convert_state_dict(checkpoint, model)
    message = str(caught.value)
    assert "missing (1): rpn_head.rpn_cls.bias" in message
    assert "unexpected (1): backbone.branch4.pos_embed" in message
    assert "of another shape (1): roi_head.bbox_head.fc_cls.weight (21, 1024), expected (81, 1024)" in message
