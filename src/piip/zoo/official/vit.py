"""The official constructor arguments of the plain ViTs, `vit_models` and `InternViT6B`, as our configuration."""

from typing import Any, Literal

from piip.branches import AnyBranchConfig, ViTConfig
from piip.config import ConfigError
from piip.zoo.official.arguments import Arguments
from piip.zoo.official.blocks import read_windows, transformer_settings

Style = Literal["deit", "internvit"]
"""`vit_models` or `InternViT6B`."""

SINGLE: dict[str, Style] = {"vit_models": "deit", "InternViT6B": "internvit"}


def classification_vit(arguments: Arguments, style: Style, *, alone: bool) -> ViTConfig:
    """Translate the arguments of one of the two classes, of their classification flavour.

    Args:
        arguments: of the official class; all are read but those of its head.
        style: which of the two classes.
        alone: whether the model stands alone; inside a pyramid the class token never gets a position embedding.

    Raises:
        ConfigError: for arguments that are missing, of the wrong type, or mean what the official code cannot run.
    """
    arguments.ignore("pretrain_img_size", "model_type", "with_fpn")
    class_token = arguments.get("use_cls_token", bool, True)
    settings = {"image_size": arguments.get("img_size", int), "class_token": class_token}
    if style == "internvit":
        settings["class_pos_embed"] = "added" if alone and class_token else "unused"
    return _vit(arguments, style, settings)


def detection_vit(arguments: Arguments, style: Style) -> ViTConfig:
    """Translate the arguments of one of the two classes, of their detection flavour.

    It has no class token (InternViT6B still has its position), and stores positions for the size of pretraining. A
    model that stands alone is made for no size in particular: its `image_size` is that of pretraining too.

    Args:
        arguments: of the official class; all are read but those of its feature pyramid.
        style: which of the two classes.

    Raises:
        ConfigError: as `classification_vit`.
    """
    arguments.ignore("img_size")
    pretrained_size = arguments.get("pretrain_img_size", int)
    settings = {
        "image_size": arguments.get("real_size", int, pretrained_size),
        "pos_embed_size": pretrained_size,
        "class_token": False,
    }
    if style == "internvit":
        settings |= {"class_pos_embed": "unused", "drop_path_rule": "linear"}
    return _vit(arguments, style, settings)


def segmentation_vit(arguments: Arguments, style: Style) -> ViTConfig:
    """Translate the arguments of one of the two classes, of their segmentation flavour.

    As that of detection, but for the positions, which are never resampled: they are stored for the image that the
    branch sees.

    Args:
        arguments: of the official class; all are read but those of its feature pyramid.
        style: which of the two classes.

    Raises:
        ConfigError: as `classification_vit`, and for positions of another image size.
    """
    stored, unread = ("pretrain_img_size", "img_size") if style == "deit" else ("img_size", "pretrain_img_size")
    arguments.ignore(unread)
    size = arguments.get(stored, int)
    real_size = arguments.get("real_size", int, size)
    if size != real_size:
        raise ConfigError(
            f"{arguments.where}.{stored}: {size}, but real_size is {real_size}; the official segmentation code stores "
            "positions for the first, and does not resample them"
        )
    settings: dict[str, Any] = {"image_size": size, "class_token": False}
    if style == "internvit":
        settings |= {"class_pos_embed": "unused", "drop_path_rule": "linear"}
    return _vit(arguments, style, settings)


def is_internvit(branch: AnyBranchConfig) -> bool:
    """Whether a ViT is officially an InternViT6B: only that has a class-token position, `vit_models` has none."""
    return isinstance(branch, ViTConfig) and branch.class_pos_embed != "none"


def _vit(arguments: Arguments, style: Style, settings: dict[str, Any]) -> ViTConfig:
    if arguments.get("drop_rate", float, 0.0):
        raise ConfigError(f"{arguments.where}.drop_rate: no official model uses dropout; expected 0")
    arguments.ignore("pretrained", "pretrain_patch_size")
    settings |= transformer_settings(arguments)
    windows = read_windows(arguments, settings["depth"])
    own = _deit_settings(arguments, windowed=windows is not None) if style == "deit" else _internvit_settings(arguments)
    with arguments.blamed():
        return ViTConfig(qkv_bias=arguments.get("qkv_bias", bool), window_size=windows, **settings, **own)


def _deit_settings(arguments: Arguments, *, windowed: bool) -> dict[str, Any]:
    return {
        "gelu": arguments.choose("Mlp_block", {None: "exact", "regular": "exact", "fused_mlp": "tanh"}, None),
        "layer_scale": float(arguments.get("init_scale", float)),
        "window_padding": _deit_window_padding(arguments, windowed),
    }


def _deit_window_padding(arguments: Arguments, windowed: bool) -> Literal["tokens", "qkv"]:
    # The flash and the plain window attention of the official DeiT pad at different places; without windows it
    # makes no difference.
    if not windowed:
        arguments.ignore("use_flash_attn")
        return "tokens"
    return arguments.choose("use_flash_attn", {True: "tokens", False: "qkv"})


def _internvit_settings(arguments: Arguments) -> dict[str, Any]:
    arguments.ignore("use_flash_attn", "layerscale_force_fp32")  # windows pad the tokens with flash attention or not
    init_values = arguments.get("init_values", (float, type(None)), None)
    return {
        "gelu": arguments.choose("mlp_type", {"regular": "exact", "fused_mlp": "tanh"}, "regular"),
        "layer_scale": float(init_values) if init_values else None,
        "norm": "rmsnorm" if arguments.get("norm_layer_type", str, "LayerNorm") == "RMSNorm" else "layernorm",
        "qk_norm": arguments.get("qk_normalization", bool, False),
    }
