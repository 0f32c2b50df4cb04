"""Pretrained checkpoints as the official loaders adapt them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from parity import DATA, assert_matches, load_case, reference_state_dict, reference_tensor
from piip.branches import ViTConfig
from piip.pyramid import InteractionConfig, Pyramid, PyramidConfig
from piip.tasks.classification.heads import SeparateHeadsConfig
from piip.tasks.classification.model import ClassificationConfig, ClassificationModel
from piip.zoo.official.arguments import Arguments
from piip.zoo.official.branches import vit_config
from piip.zoo.pretrained import Family, load_branch
from piip.zoo.pretrained.checkpoint import read_checkpoint

FAMILIES: dict[str, Family] = {
    "DeiT / DeiT III": "deit",
    "AugReg (converted) / InternViT style": "augreg",
    "MAE": "mae",
    "InternViT-6B": "internvit_6b",
}
RESAMPLED = 1e-6  # one bicubic interpolation of values around 0.2
CASES = sorted(path.stem for kind in ("cls", "det") for path in DATA.glob(f"pretrain_{kind}_*.json"))


def official_branch(case: dict[str, Any]) -> ViTConfig:
    """The branch of a case; the detection classes have no class token, and positions for the pretraining size."""
    kwargs = case["kwargs"]
    if "img_size" not in kwargs:
        kwargs = {**kwargs, "img_size": kwargs["pretrain_img_size"], "use_cls_token": False}
    style = "deit" if case["class"] == "vit_models" else "internvit"
    return vit_config(Arguments(kwargs, case["class"]), style, alone=False)


def build(case: dict[str, Any]) -> ClassificationModel | Pyramid:
    pyramid = PyramidConfig(branches=(official_branch(case),), interaction=InteractionConfig(edges=()))
    if not case["kwargs"].get("use_final_norm_and_head", False):
        return pyramid.build()
    head = SeparateHeadsConfig(num_classes=case["kwargs"]["num_classes"])
    return ClassificationConfig(pyramid=pyramid, head=head).build()


def official_name(name: str, case: dict[str, Any]) -> str:
    """What the official class calls a tensor of our model."""
    name = name.removeprefix("pyramid.").removeprefix("branches.0.")
    name = name.removeprefix("head.branches.1.").replace("linear.", "head.")
    if case["class"] == "vit_models":
        name = name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")
    return name


def official_state_dict(model: torch.nn.Module, case: dict[str, Any]) -> dict[str, Tensor]:
    return {official_name(name, case): tensor for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", CASES)
def test_official_loading(name: str, tmp_path: Path) -> None:
    case, arrays = load_case(name)
    checkpoint = reference_state_dict(case["checkpoint_tensors"], case["checkpoint_seed"])
    wrapper = case["checkpoint_wrapper"]["key"]
    torch.save(checkpoint if wrapper is None else {wrapper: checkpoint}, tmp_path / "vit.pth")
    model = build(case)

    report = load_branch(model, 1, tmp_path / "vit.pth", FAMILIES[case["family"]])

    tensors = official_state_dict(model, case)
    kept = case["kept_from_init"]
    assert set(tensors) == {*case["loaded_verbatim"], *case["changed"], *kept}
    for key in case["loaded_verbatim"]:
        assert torch.equal(tensors[key], checkpoint[key]), key
    for key in case["changed"]:
        assert_matches(tensors[key], case, arrays, key, RESAMPLED)
    for key, constant in case["kept_from_init_constant"].items():
        assert (tensors[key] == constant).all(), key

    assert {official_name(key, case) for key in report.adapted} == set(case["changed"])
    assert {official_name(key, case) for key in report.loaded} == set(case["loaded_verbatim"])
    assert {official_name(key, case) for key in report.kept} == set(kept)
    assert set(report.ignored) == set(case["checkpoint_keys_not_loaded"])


def test_augreg_arrays(tmp_path: Path) -> None:
    case, arrays = load_case("pretrain_augreg_npz")
    file = {key: reference_tensor(key, tuple(shape), case["npz_seed"]) for key, shape in case["npz_tensors"].items()}
    np.savez(tmp_path / "vit.npz", **file)
    checkpoint = read_checkpoint(tmp_path / "vit.npz", "augreg")
    assert set(checkpoint.tensors) == set(case["outputs"])
    assert (
        checkpoint.num_heads
        == case["npz_tensors"]["Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel"][1]
    )
    for key, tensor in checkpoint.tensors.items():
        assert_matches(tensor, case, arrays, key, RESAMPLED)
