"""The backbones of the released detectors, as official constructor arguments."""

from itertools import accumulate
from typing import Any

from piip import even_stages

_VIT = {  # depth, width, heads
    "tiny": (12, 192, 3),
    "small": (12, 384, 6),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
    "huge": (32, 1280, 16),
    "6b": (48, 3200, 25),
}
_CONVNEXT = {"tiny": (3, 4, 2, *[1] * 8, 4), "small": (3, 4, 4, *[3] * 8, 4), "base": (3, 4, 4, *[3] * 8, 4)}
_LETTERS = {"t": "tiny", "s": "small", "b": "base", "l": "large"}


def vit(size: str, pretraining: int) -> dict[str, Any]:
    depth, width, heads = _VIT[size]
    return {
        "pretrain_img_size": pretraining,
        "patch_size": 16,
        "pretrain_patch_size": 16,
        "depth": depth,
        "embed_dim": width,
        "num_heads": heads,
        "mlp_ratio": 4,
        "drop_path_rate": 0.2,
        "window_attn": [True] * depth,
        "window_size": [14] * depth,
    }


def deit(size: str, pretraining: int = 224) -> dict[str, Any]:
    own = {"pretrained": "deit_3.pth", "init_scale": 1.0, "with_fpn": False, "qkv_bias": True, "use_flash_attn": True}
    return vit(size, pretraining) | own


def internvit(size: str, pretraining: int = 224, name: str = "augreg.pth") -> dict[str, Any]:
    own = {"pretrained": name, "init_values": 1.0, "with_fpn": False, "qkv_bias": True, "norm_layer_type": "LayerNorm"}
    return vit(size, pretraining) | own


def internvit_6b() -> dict[str, Any]:
    own = {"init_values": 0.1, "qkv_bias": False, "qk_normalization": True, "norm_layer_type": "RMSNorm"}
    return internvit("6b", name="intern_vit_6b.pth") | own | {"pretrain_patch_size": 14}


def beit(size: str) -> dict[str, Any]:
    own = {"pretrained": "beitv2.pth", "init_values": 1e-6, "use_abs_pos_emb": False, "use_rel_pos_bias": True}
    settings = vit(size, 224) | own | {"qkv_bias": True}
    return settings | {"window_size": [28] * settings["depth"]}


def uniperceiver(size: str) -> dict[str, Any]:
    return vit(size, 224) | {"pretrained": "uni-perceiver.pth"}


def convnext(size: str) -> dict[str, Any]:
    return {"pretrained": f"facebook/convnext-{size}-224", "drop_path_rate": 0.2}


def pyramid(branches: list[dict[str, Any]], sizes: list[int], stages: int = 12, **changes: Any) -> dict[str, Any]:
    """Branches from branch 1 on, and the sizes of their images from the largest on, as names of files have them."""
    numbered = {
        f"branch{number}": {**branch, "real_size": size, "interaction_indexes": _indexes(branch, stages)}
        for number, (branch, size) in enumerate(zip(branches, sorted(sizes), strict=True), 1)
    }
    return {
        "type": {2: "PIIPTwoBranch", 3: "PIIPThreeBranch", 4: "PIIPFourBranch"}[len(branches)],
        "n_points": 4,
        "deform_num_heads": 16,
        "cffn_ratio": 0.25,
        "deform_ratio": 0.5,
        "with_cffn": True,
        "interact_attn_type": "deform",
        "interaction_drop_path_rate": 0.4,
        **numbered,
        **changes,
    }


def _indexes(branch: dict[str, Any], stages: int) -> list[list[int]]:
    if "depth" not in branch:
        lengths = _CONVNEXT[branch["pretrained"].split("-")[1]]
    else:
        lengths = even_stages(branch["depth"], stages)
    ends = list(accumulate(lengths))
    return [[end - length, end - 1] for end, length in zip(ends, lengths, strict=True)]


SPEEDUP = {"interaction_proj": False, "norm_layer": "none"}
DINO = {"is_dino": True}


def backbone(name: str) -> dict[str, Any]:
    """The backbone of a released configuration, by the stem of its file."""
    words = name.split("_")
    sizes = [int(word) for word in words if word.isdigit() and int(word) > 400]
    changes = SPEEDUP if "speedup" in words or "lh6b" in words else {}
    match [word for word in words if word not in ("mask", "rcnn", "dino", "4scale", "384")]:
        case ["deit", "vit", letter, *_]:
            return {"type": "vit_models", **deit(_LETTERS[letter]), "with_fpn": True}
        case ["internvit", "6b", *_]:
            return {"type": "InternViT6B", **internvit_6b(), "with_fpn": True}
        case ["convnext-base", *_]:
            return {"type": "ConvNextHFWrapper", **convnext("base")}
        case ["deit", letters, *_]:
            pretraining = 384 if "384" in words else 224
            branches = [deit(_LETTERS[letter], pretraining) for letter in reversed(letters)]
        case ["augreg", *_]:
            branches = [internvit(size, 384) for size in ("large", "base", "small")]
        case ["dinov2", *_]:
            branches = [internvit(size, 518) for size in ("large", "base", "small")]
        case ["mae", *_]:
            branches = [internvit("large"), internvit("base"), deit("small")]
        case ["beit", *_]:
            branches = [beit("large"), beit("base"), deit("small")]
        case ["uniperceiver", *_]:
            branches = [uniperceiver("large"), uniperceiver("base"), deit("small")]
        case ["internvit", "h6b", *_]:
            branches = [internvit_6b(), internvit("huge", name="mae.pth")]
        case ["internvit", "lh6b", *_]:
            branches = [internvit_6b(), internvit("huge", name="mae.pth"), deit("large", 384)]
        case ["convnext-tsb", *_]:
            branches = [convnext(size) for size in ("base", "small", "tiny")]
        case [*kinds, _, _, _, "regular-fpn"]:
            makers = {"vit": deit, "convnext": convnext}
            split = [kind.split("-") for kind in reversed(kinds)]
            branches = [makers[kind](_LETTERS[letter]) for kind, letter in split]
    if "dino" in words:
        changes = changes | DINO
    if "regular-fpn" in words:
        changes = {"with_simple_fpn": False, "out_interaction_indexes": [0, 1, 10]}
    return pyramid(branches, sizes, stages=4 if "lh6b" in words else 12, **changes)


def dino(name: str, case: dict[str, Any], channels: list[int]) -> dict[str, Any]:
    """A released DINO: what the small one of a case has, but for its backbone and the numbers of queries and layers."""
    head = case["bbox_head"]
    transformer = head["transformer"] | {"two_stage_num_proposals": 900}
    for side in ("encoder", "decoder"):
        transformer[side] = transformer[side] | {"num_layers": 6}
    return {
        **case,
        "backbone": backbone(name),
        "neck": {**case["neck"], "in_channels": channels},
        "bbox_head": {**head, "num_query": 900, "transformer": transformer},
    }


def edited(arguments: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The arguments with another value at a dotted path; without it for None."""
    key, _, rest = path.partition(".")
    if not rest:
        others = {name: old for name, old in arguments.items() if name != key}
        return others if value is None else {**others, key: value}
    return {**arguments, key: edited(arguments[key], rest, value)}
