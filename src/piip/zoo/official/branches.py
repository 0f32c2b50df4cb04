"""The official constructor arguments of one branch, as our configuration."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from piip.branches import ViTConfig
from piip.config import ConfigError
from piip.pyramid import InteractionConfig
from piip.zoo.official.arguments import Arguments


def vit_config(arguments: Arguments, style: str, *, alone: bool) -> ViTConfig:
    """Translate the arguments of `vit_models` (style `deit`) or `InternViT6B` (style `internvit`).

    Args:
        arguments: of the official class, of its classification flavour; all are read but those of its head.
        style: which of the two classes.
        alone: whether the model stands alone; inside a pyramid the class token never gets a position embedding.

    Raises:
        ConfigError: for arguments that are missing, of the wrong type, or mean what the official code cannot run.
    """
    if arguments.get("drop_rate", float, 0.0):
        raise ConfigError(f"{arguments.where}.drop_rate: no official model uses dropout; expected 0")
    arguments.ignore("pretrained", "pretrain_img_size", "pretrain_patch_size", "model_type", "with_fpn")
    depth = arguments.get("depth", int)
    stages, unused = _stages(arguments, depth)
    windows = _windows(arguments, depth)
    own = _deit_settings if style == "deit" else _internvit_settings
    try:
        return ViTConfig(
            image_size=arguments.get("img_size", int),
            depth=depth,
            embed_dim=arguments.get("embed_dim", int),
            num_heads=arguments.get("num_heads", int),
            stages=stages,
            unused_blocks=unused,
            patch_size=arguments.get("patch_size", int, 16),
            mlp_ratio=float(arguments.get("mlp_ratio", float, 4.0)),
            qkv_bias=arguments.get("qkv_bias", bool),
            window_size=windows,
            class_token=arguments.get("use_cls_token", bool, True),
            drop_path=float(arguments.get("drop_path_rate", float, 0.0)),
            activation_checkpointing=arguments.get("with_cp", bool, False),
            **own(arguments, windowed=windows is not None, alone=alone),
        )
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{arguments.where}: {error}") from error


def sizes_seen(branches: tuple[ViTConfig, ...], interaction: InteractionConfig) -> tuple[ViTConfig, ...]:
    """Give the branches the image sizes that the official pyramid runs them at.

    It enlarges no image: a branch whose image should be larger than that of the last branch sees the same image as
    that. Only InternViT6B and regular attention can be run so. What the official code cannot run is left as it is
    written: our branches are resized to any size.
    """
    last = branches[-1].image_size
    larger = [branch for branch in branches if branch.image_size > last]
    if interaction.attention != "regular" or not all(map(is_internvit, larger)):
        return branches
    return tuple(
        replace(branch, image_size=last, pos_embed_size=branch.image_size) if branch in larger else branch
        for branch in branches
    )


def is_internvit(branch: ViTConfig) -> bool:
    """Whether a branch is an InternViT6B or a `vit_models` officially: only the former has a class-token position."""
    return branch.class_pos_embed != "none"


def _deit_settings(arguments: Arguments, *, windowed: bool, alone: bool) -> dict[str, Any]:
    del alone  # `vit_models` has no position for the class token, alone or not
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


def _internvit_settings(arguments: Arguments, *, windowed: bool, alone: bool) -> dict[str, Any]:
    del windowed  # pads the tokens with and without flash attention
    arguments.ignore("use_flash_attn", "layerscale_force_fp32")
    init_values = arguments.get("init_values", (float, type(None)), None)
    added = alone and arguments.get("use_cls_token", bool, True)
    return {
        "gelu": arguments.choose("mlp_type", {"regular": "exact", "fused_mlp": "tanh"}, "regular"),
        "layer_scale": float(init_values) if init_values else None,
        "norm": "rmsnorm" if arguments.get("norm_layer_type", str, "LayerNorm") == "RMSNorm" else "layernorm",
        "qk_norm": arguments.get("qk_normalization", bool, False),
        "class_pos_embed": "added" if added else "unused",
    }


def _stages(arguments: Arguments, depth: int) -> tuple[tuple[int, ...], int]:
    """The number of blocks in each stage, and of those after the last."""
    ranges = arguments.get("interaction_indexes", (list, tuple, type(None)), None)
    if ranges is None:
        return (depth,), 0
    stages: list[int] = []
    for entry in ranges:
        if not isinstance(entry, list | tuple) or [type(index) for index in entry] != [int, int]:
            raise ConfigError(f"{arguments.where}.interaction_indexes: expected pairs (first, last), got {entry!r}")
        first, last = entry
        blocks = range(depth)[first : last + 1]  # the official code slices its blocks: what is not there is left out
        if blocks and blocks.start != sum(stages):
            raise ConfigError(
                f"{arguments.where}.interaction_indexes: {[first, last]} begins with block {blocks.start}, but the "
                f"next one is {sum(stages)}; blocks are run once each, in their order"
            )
        stages.append(len(blocks))
    return tuple(stages), depth - sum(stages)


def _windows(arguments: Arguments, depth: int) -> tuple[int | None, ...] | None:
    """The window of each block, or None where no block has one."""
    windowed = _for_each_block(arguments, "window_attn", bool, False, depth)
    if not any(windowed):
        arguments.ignore("window_size")
        return None
    sizes = _for_each_block(arguments, "window_size", int, 14, depth)
    return tuple(size if used else None for used, size in zip(windowed, sizes, strict=True))


def _for_each_block(arguments: Arguments, name: str, kind: type, default: Any, depth: int) -> Sequence[Any]:
    value = arguments.get(name, (kind, list, tuple), default)
    if not isinstance(value, list | tuple):
        return [value] * depth
    if len(value) != depth:
        raise ConfigError(f"{arguments.where}.{name}: {len(value)} values, but depth is {depth}")
    if any(type(one) is not kind for one in value):
        raise ConfigError(f"{arguments.where}.{name}: expected {kind.__name__} for each block, got {list(value)}")
    return value
