"""The constructor dicts of official DINOs, and the names of their tensors."""

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from released_detectors import dino, edited

from parity import DATA, load_case
from piip.config import ConfigError
from piip.tasks.detection.dino import DINOConfig, TermWeights, TransformerConfig
from piip.zoo import official
from piip.zoo.cards import find_card
from piip.zoo.official import ConversionError

BACKBONES = json.loads(gzip.decompress((DATA / "manifests_detection_backbone.json.gz").read_bytes()))
DETECTORS = json.loads(gzip.decompress((DATA / "manifests_dino.json.gz").read_bytes()))
CASE = load_case("dino_infer_three_deit")[0]


@pytest.mark.parametrize("name", DETECTORS["models"])
def test_released_manifest(name: str) -> None:
    manifest = DETECTORS["models"][name]
    shapes = {f"backbone.{key}": tuple(shape) for key, shape in BACKBONES[name]["state_dict"].items()}
    (channels,) = set(manifest["in_channels"])
    for key, shape in DETECTORS["heads"].items():
        shapes[key] = tuple(channels if size is None else size for size in shape)
    with torch.device("meta"):
        checkpoint = {key: torch.empty(shape) for key, shape in shapes.items()}
        model = official.build_model(dino(name, CASE["model"], manifest["in_channels"]), "detection")
        of_card = find_card(name).config().build()

    of_card.load_state_dict(official.convert_state_dict(checkpoint, of_card), strict=True, assign=True)
    model.load_state_dict(official.convert_state_dict(checkpoint, model), strict=True, assign=True)

    exported = official.official_state_dict(model)
    assert {key: tuple(tensor.shape) for key, tensor in exported.items()} == shapes
    assert sum(tensor.numel() for tensor in exported.values()) == manifest["num_params"]


def test_configuration_of_the_release_is_the_default() -> None:
    name, manifest = next(iter(DETECTORS["models"].items()))
    config = official.model_config(dino(name, CASE["model"], manifest["in_channels"]), "detection")
    assert config == DINOConfig(backbone=config.backbone)


HEAD = "bbox_head."
ENCODER = "bbox_head.transformer.encoder."
DECODER = "bbox_head.transformer.decoder."


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("backbone.type", "Swin", r"DINO\.backbone\.type: 'Swin' is not an official backbone"),
        ("neck.type", "FPN", r"DINO\.neck\.type: expected 'ChannelMapper', got 'FPN'"),
        ("neck.in_channels", [96], r"neck\.in_channels: expected \[96, 96, 96\], got \[96\]"),
        ("neck.num_outs", 5, r"transformer\.num_feature_levels: expected 5, got 4"),
        ("neck.norm_cfg.num_groups", 16, r"norm_cfg\.num_groups: expected 32, got 16"),
        (HEAD + "as_two_stage", False, r"bbox_head\.as_two_stage: expected True, got False"),
        (HEAD + "num_query", 60, r"transformer\.two_stage_num_proposals: expected 60, got 50"),
        (HEAD + "num_query", None, r"bbox_head\.num_query: is missing"),
        (HEAD + "dn_cfg.group_cfg.dynamic", False, r"group_cfg\.dynamic: expected True, got False"),
        (HEAD + "dn_cfg.noise_scale.label", 3, r"DINO: denoising\.label_noise: expected a number from 0 to 2"),
        (ENCODER + "transformerlayers.ffn_dropout", 0.1, r"transformerlayers\.ffn_dropout: expected 0\.0, got 0\.1"),
        (
            ENCODER + "transformerlayers.attn_cfgs.num_points",
            8,
            r"attn_cfgs\[1\]\.num_heads, num_points: \(8, 4\)",
        ),
        (ENCODER + "with_cp", 6, r"transformer\.encoder: not known: with_cp"),
        (DECODER + "transformerlayers.feedforward_channels", 64, r"feedforward_channels: 64, but 2048 in the encoder"),
        (
            DECODER + "transformerlayers.operation_order",
            ["norm"],
            r"operation_order: expected \['self_attn', 'norm', 'c",
        ),
        (DECODER + "transformerlayers.attn_cfgs", [], r"attn_cfgs: expected two"),
        (DECODER + "num_layers", 0, r"DINO: transformer\.decoder_layers: expected at least 1, got 0"),
        (HEAD + "positional_encoding.temperature", 10000, r"positional_encoding\.temperature: expected 20, got 10000"),
        (HEAD + "loss_cls.gamma", 1.5, r"loss_cls\.gamma: expected 2\.0, got 1\.5"),
        (HEAD + "loss_iou.type", "CIoULoss", r"loss_iou\.type: expected 'GIoULoss'"),
        ("train_cfg.assigner.reg_cost.box_format", "xyxy", r"reg_cost\.box_format: expected 'xywh', got 'xyxy'"),
        ("train_cfg.assigner.type", "SimOTAAssigner", r"assigner\.type: expected 'HungarianAssigner'"),
        ("test_cfg.nms", {}, r"test_cfg: not known: nms"),
        ("mask_head", {}, r"DINO: not known: mask_head"),
    ],
)
def test_unknown_arguments_are_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        official.model_config(edited(CASE["model"], path, value), "detection")


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("test_cfg.max_per_img", 100, lambda config: config.max_detections == 100),
        (HEAD + "num_classes", 20, lambda config: config.num_classes == 20),
        (HEAD + "dn_cfg.group_cfg.num_dn_queries", 50, lambda config: config.denoising.num_queries == 50),
        (HEAD + "loss_bbox.loss_weight", 3, lambda config: config.losses == TermWeights(label=1.0, distance=3.0)),
        ("train_cfg.assigner.iou_cost.weight", 1, lambda c: c.costs == TermWeights(label=2.0, overlap=1.0)),
        (ENCODER + "num_layers", 3, lambda config: config.transformer.encoder_layers == 3),
    ],
)
def test_other_values_are_taken_over(path: str, value: Any, field: Any) -> None:
    assert field(official.model_config(edited(CASE["model"], path, value), "detection"))


def test_other_widths_have_no_official_form() -> None:
    config = official.model_config(CASE["model"], "detection")
    with torch.device("meta"):
        model = replace(config, transformer=TransformerConfig(embed_dim=128)).build()
    with pytest.raises(ConversionError, match=r"transformer\.embed_dim: 128; officially 256"):
        official.official_state_dict(model)


def test_misfits_are_listed_with_the_names_of_the_whole_model() -> None:
    with torch.device("meta"):
        model = official.build_model(CASE["model"], "detection")
        checkpoint = {key: torch.empty(shape) for key, shape in CASE["state_dict"].items()}
    del checkpoint["bbox_head.reg_branches.2.4.bias"]
    checkpoint["bbox_head.label_embedding.weight"] = torch.empty(92, 256)
    checkpoint["bbox_head.transformer.reference_points.weight"] = torch.empty(1)
    with pytest.raises(ConversionError) as caught:
        official.convert_state_dict(checkpoint, model)
    message = str(caught.value)
    assert "missing (1): bbox_head.reg_branches.2.4.bias" in message
    assert "unexpected (1): bbox_head.transformer.reference_points.weight" in message
    assert "of another shape (1): bbox_head.label_embedding.weight (92, 256), expected (80, 256)" in message
