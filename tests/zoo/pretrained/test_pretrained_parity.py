"""Pretrained checkpoints as the official loaders adapt them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parity import DATA, assert_matches, load_case, reference_state_dict, reference_tensor
from piip.pyramid import Backbone, BackboneConfig, PyramidConfig
from piip.tasks.classification.model import ClassificationModel
from piip.zoo import official
from piip.zoo.official.arguments import Arguments
from piip.zoo.official.branches import detection_branch
from piip.zoo.official.keys import official_names
from piip.zoo.pretrained import Family, load_branch
from piip.zoo.pretrained.checkpoint import read_checkpoint

FAMILIES: dict[str, Family] = {
    "DeiT / DeiT III": "deit",
    "AugReg (converted) / InternViT style": "augreg",
    "MAE": "mae",
    "InternViT-6B": "internvit_6b",
    "BEiT / BEiTv2": "beit",
}
RESAMPLED = 1e-6  # one bicubic interpolation of values around 0.2
CASES = sorted(path.stem for kind in ("cls", "det") for path in DATA.glob(f"pretrain_{kind}_*.json"))


def build(case: dict[str, Any]) -> ClassificationModel | Backbone:
    if case["name"].startswith("pretrain_cls_"):
        return official.build_model({"type": case["class"], **case["kwargs"]})
    if case["class"] != "BEiT":
        return official.build_model({"type": case["class"], "with_fpn": True, **case["kwargs"]}, "detection")
    branch = detection_branch(Arguments({**case["kwargs"], "pretrained": "beit"}, "BEiT"), {})
    return BackboneConfig(pyramid=PyramidConfig(branches=(branch,))).build()


def names_of(model: ClassificationModel | Backbone) -> dict[str, str]:
    """The official name of each tensor of the branch, and of its own head."""
    names = official_names(model.state_dict(), model.config)
    return {name: names[name] for name in names if name.startswith(("pyramid.", "head."))}


@pytest.mark.parametrize("name", CASES)
def test_official_loading(name: str, tmp_path: Path) -> None:
    case, arrays = load_case(name)
    checkpoint = reference_state_dict(case["checkpoint_tensors"], case["checkpoint_seed"])
    wrapper = case["checkpoint_wrapper"]["key"]
    torch.save(checkpoint if wrapper is None else {wrapper: checkpoint}, tmp_path / "vit.pth")
    model = build(case)

    classifier = isinstance(model, ClassificationModel)
    report = load_branch(model if classifier else model.pyramid, 1, tmp_path / "vit.pth", FAMILIES[case["family"]])

    official_name = names_of(model)
    tensors = {official_name[key]: tensor for key, tensor in model.state_dict().items() if key in official_name}
    prefix = "" if classifier else "pyramid."
    official_name = {key.removeprefix(prefix): official for key, official in official_name.items()}
    kept = case["kept_from_init"]
    assert set(tensors) == {*case["loaded_verbatim"], *case["changed"], *kept}
    for key in case["loaded_verbatim"]:
        assert torch.equal(tensors[key], checkpoint[key]), key
    for key in case["changed"]:
        assert_matches(tensors[key], case, arrays, key, RESAMPLED)
    for key, constant in case["kept_from_init_constant"].items():
        assert (tensors[key] == constant).all(), key

    assert {official_name[key] for key in report.adapted} == set(case["changed"])
    assert {official_name[key] for key in report.loaded} == set(case["loaded_verbatim"])
    assert {official_name[key] for key in report.kept} == set(kept)
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
