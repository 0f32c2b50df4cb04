"""The released UperNets, as official constructor arguments."""

from typing import Any

from parity import load_case
from zoo.released_detectors import SPEEDUP, internvit, internvit_6b, pyramid

WITHOUT_WINDOWS = {"window_attn": False, "mlp_type": "fused_mlp"}


def backbone(name: str) -> dict[str, Any]:
    """The backbone of a released configuration, by the stem of its file."""
    sizes = [int(word) for word in name.split("_") if word.isdigit()]
    if "_6b_" in name:
        single = internvit_6b() | WITHOUT_WINDOWS | {"img_size": sizes[0], "with_fpn": True}
        return {"type": "InternViT6B", **single, "out_indices": [11, 23, 35, 47]}
    branches = [internvit_6b() | WITHOUT_WINDOWS, internvit("huge", name="mae.pth") | WITHOUT_WINDOWS]
    own = {"img_size": sizes[0]}, {"img_size": sizes[1]}
    return pyramid([branch | size for branch, size in zip(branches, own, strict=True)], sizes, **SPEEDUP)


def segmenter(name: str) -> dict[str, Any]:
    """A released configuration: but for the backbone and the widths, all of them are that of the cases."""
    (case, _) = load_case("upernet_infer_internvit_two")
    decode = {**case["model"]["decode_head"], "in_channels": [3200] * 4, "channels": 1536}
    auxiliary = {**case["model"]["auxiliary_head"], "in_channels": 3200, "channels": 1536}
    slide = {"mode": "slide", "crop_size": (512, 512), "stride": (341, 341)}
    heads = {"decode_head": decode, "auxiliary_head": auxiliary, "test_cfg": slide}
    return {**case["model"], "backbone": backbone(name), **heads}
