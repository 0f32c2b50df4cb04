"""Detection backbones against what the official code computed."""

import gzip
import json
from typing import Any

import pytest
import torch
from released_detectors import backbone

from parity import DATA, assert_matches, load_case, reference_input, reference_state_dict
from piip.pyramid import Backbone
from piip.zoo import official

CASES = [
    pytest.param(path.stem, marks=pytest.mark.slow if "official" in path.stem else ())
    for path in sorted(DATA.glob("det_bb_*.json"))
]
# What the notes give: float32 arithmetic in another order moves maps by less than this.
SMALL, RELEASED = 1e-5, 3e-5


def build(case: dict[str, Any]) -> Backbone:
    return official.build_model(case["backbone"], task="detection", convnexts=case.get("convnext_architectures"))


@torch.inference_mode()
@pytest.mark.parametrize("name", CASES)
def test_maps(name: str) -> None:
    case, arrays = load_case(name)
    model = build(case).eval()
    weights = reference_state_dict(case["state_dict"], case["weight_seed"])
    model.load_state_dict(official.convert_state_dict(weights, model), strict=True)

    maps = model(reference_input(tuple(case["input_shape"]), case["input_seed"]))

    assert len(maps) == len(case["outputs"])
    for number, out in enumerate(maps):
        atol = RELEASED if "official" in name else SMALL
        assert_matches(out, case, arrays, f"out.{number}", atol)


MANIFESTS = json.loads(gzip.decompress((DATA / "manifests_detection_backbone.json.gz").read_bytes()))


@pytest.mark.parametrize("name", MANIFESTS)
def test_released_manifest(name: str) -> None:
    manifest = MANIFESTS[MANIFESTS[name].get("same_as", name)]
    shapes = {key: tuple(shape) for key, shape in manifest["state_dict"].items()}
    with torch.device("meta"):
        checkpoint = {key: torch.empty(shape) for key, shape in shapes.items()}
        arguments = backbone(name.removesuffix(".intended"))
        model = official.build_model(arguments, "detection", checkpoint if "tsbl" in name else None)

    model.load_state_dict(official.convert_state_dict(checkpoint, model), strict=True, assign=True)

    exported = official.official_state_dict(model)
    assert {key: tuple(tensor.shape) for key, tensor in exported.items()} == shapes
    parameters = sum(tensor.numel() for tensor in exported.values() if tensor.is_floating_point())
    assert parameters == manifest["num_params"]
