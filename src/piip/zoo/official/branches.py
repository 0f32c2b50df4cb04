"""The official constructor arguments of one branch of a detector's pyramid, as our configuration."""

from collections.abc import Mapping
from typing import Any

from piip.branches import AnyBranchConfig, BEiTConfig, ConvNeXtConfig, UniPerceiverConfig
from piip.branches.presets import CONVNEXT_SIZES
from piip.config import ConfigError
from piip.zoo.official.arguments import Arguments
from piip.zoo.official.blocks import read_stages, read_windows, transformer_settings
from piip.zoo.official.vit import detection_vit

Architectures = Mapping[str, Mapping[str, Any]]
"""Of ConvNeXts that have no usual size: what `pretrained` names, and its `depths` and `hidden_sizes`."""

BRANCH_OUTPUTS = ("with_fpn", "out_indices", "output_dtype", "start_level", "img_norm_cfg")
"""Arguments that say what a model returns when it stands alone; a pyramid goes by none of them."""


def detection_branch(arguments: Arguments, convnexts: Architectures) -> AnyBranchConfig:
    """Translate the arguments of one branch; what its `pretrained` contains tells the class, as officially.

    Args:
        arguments: of the branch.
        convnexts: architectures beside the usual ones.

    Raises:
        ConfigError: for arguments that are missing, of the wrong type, or mean what cannot be run.
    """
    pretrained = arguments.get("pretrained", str)
    arguments.ignore(*BRANCH_OUTPUTS)
    if "deit" in pretrained:
        return detection_vit(arguments, "deit")
    if "beit" in pretrained:
        return _beit(arguments)
    if "perceiver" in pretrained:
        return _uniperceiver(arguments)
    if "convnext" in pretrained:
        return detection_convnext(arguments, convnexts)
    return detection_vit(arguments, "internvit")


def detection_convnext(arguments: Arguments, convnexts: Architectures) -> ConvNeXtConfig:
    """Translate the arguments of `ConvNextHFWrapper`; without `real_size`, it is made for images of 224 pixels."""
    name = arguments.get("pretrained", str)
    depths, widths = _architecture(name, convnexts, arguments.where)
    ranges = arguments.get("interaction_indexes", (list, tuple, type(None)), None)
    if ranges is None:
        stages, unused = (depths[0], *(1 + depth for depth in depths[1:])), 0
    else:
        stages, unused = read_stages(arguments, sum(depths) + len(depths) - 1)
    with arguments.blamed():
        config = ConvNeXtConfig(
            image_size=arguments.get("real_size", int, 224),
            stages=stages,
            unused_blocks=unused,
            depths=depths,
            widths=widths,
            drop_path=float(arguments.get("drop_path_rate", float, 0.0)),
        )
    _check_downsampling(arguments, config)
    return config


def _architecture(name: str, convnexts: Architectures, where: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if name in convnexts:
        return tuple(convnexts[name]["depths"]), tuple(convnexts[name]["hidden_sizes"])
    found = [size for size in CONVNEXT_SIZES if f"convnext-{size}" in name or f"convnext_{size}" in name]
    if len(found) != 1:
        raise ConfigError(
            f"{where}.pretrained: {name!r} names no ConvNeXt of a usual size ({', '.join(CONVNEXT_SIZES)}); "
            f"give its depths and hidden_sizes in convnexts"
        )
    return CONVNEXT_SIZES[found[0]]


def _check_downsampling(arguments: Arguments, config: ConvNeXtConfig) -> None:
    """The official code trusts these ratios, one for each block; ours knows them."""
    ratios = arguments.each("downsample_ratios", int, 0, config.depth)
    every_block = ConvNeXtConfig(
        image_size=2**20, stages=(1,) * config.depth, depths=config.depths, widths=config.widths
    ).strides
    if any(ratios) and tuple(ratios) != every_block:
        raise ConfigError(f"{arguments.where}.downsample_ratios: expected {list(every_block)}, got {list(ratios)}")


def _image_size(arguments: Arguments) -> int:
    return arguments.get("real_size", int, arguments.get("pretrain_img_size", int))


def _beit(arguments: Arguments) -> BEiTConfig:
    arguments.choose("use_abs_pos_emb", {False: False}, False)
    arguments.choose("use_rel_pos_bias", {True: True})
    arguments.ignore("pretrain_patch_size", "use_flash_attn")
    settings = transformer_settings(arguments)
    depth, init_values = settings["depth"], arguments.get("init_values", (float, type(None)), None)
    # A block without windows has a table for the whole grid, which is then one window.
    arguments.each("window_attn", bool, False, depth)
    with arguments.blamed():
        return BEiTConfig(
            image_size=_image_size(arguments),
            qkv_bias=arguments.get("qkv_bias", bool, False),
            layer_scale=None if init_values is None else float(init_values),
            window_size=tuple(arguments.each("window_size", int, 14, depth)),
            drop_path_rule="linear",
            **settings,
        )


def _uniperceiver(arguments: Arguments) -> UniPerceiverConfig:
    arguments.ignore("pretrain_patch_size", "use_flash_attn")
    arguments.choose("qkv_bias", {True: True}, True)
    settings = transformer_settings(arguments)
    with arguments.blamed():
        return UniPerceiverConfig(
            image_size=_image_size(arguments),
            pos_embed_size=arguments.get("pretrain_img_size", int),
            layer_scale=0.0,
            window_size=read_windows(arguments, settings["depth"]),
            drop_path_rule="linear",
            **settings,
        )
