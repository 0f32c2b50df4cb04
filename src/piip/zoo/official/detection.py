"""The official constructor arguments of detection backbones, as our configuration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from piip.branches import AnyBranchConfig, ConvNeXtConfig, ViTConfig
from piip.config import ConfigError, nearest
from piip.pyramid import (
    BackboneConfig,
    ConvMergingConfig,
    InteractionConfig,
    LevelConfig,
    PyramidConfig,
    simple_pyramid,
)
from piip.zoo.official.arguments import Arguments
from piip.zoo.official.branches import BRANCH_OUTPUTS, Architectures, detection_branch, detection_convnext
from piip.zoo.official.pyramid import NUM_BRANCHES, branch_arguments, read_interaction
from piip.zoo.official.vit import SINGLE, Style, detection_vit

CLASSES = (*NUM_BRANCHES, *SINGLE, "ConvNextHFWrapper")
SIMPLE_LEVELS = simple_pyramid(4, 2, 1, 0.5)
DINO_LEVELS = simple_pyramid(2, 1, 0.5)

_SCALES = (4, 2, 1, 0.5)  # of the maps fpn1 to fpn4
_BRANCH4_WIDTH = "branch4.pos_embed"


def backbone_config(
    arguments: Arguments, state_dict: Mapping[str, Any] | None, convnexts: Architectures
) -> BackboneConfig:
    """Translate the arguments of a pyramid, or of one model alone.

    Args:
        arguments: of the official class.
        state_dict: the checkpoint to be loaded, if there is one; see `build_model`.
        convnexts: architectures beside the usual ones.

    Raises:
        ConfigError: for arguments that are missing, of the wrong type, or mean what cannot be run.
    """
    name = arguments.get("type", str)
    if name in NUM_BRANCHES:
        return _pyramid(arguments, state_dict, convnexts)
    if name in SINGLE:
        return single_vit(arguments, detection_vit)
    arguments.ignore(*BRANCH_OUTPUTS)  # it returns the map after each stage, whatever these are
    branch = detection_convnext(arguments, convnexts)
    arguments.finish()
    levels = tuple(LevelConfig(stage=stage, scale=1) for stage in range(len(branch.stages)))
    return BackboneConfig(pyramid=_alone(branch), merging=None, levels=levels)


def backbone_part(
    arguments: Arguments, state_dict: Mapping[str, Any] | None, convnexts: Architectures
) -> BackboneConfig:
    """Translate the `backbone` among the arguments of a detector; see `backbone_config`."""
    part = arguments.part("backbone")
    name = part.get("type", str)
    if name not in CLASSES:
        raise ConfigError(f"{part.where}.type: {name!r} is not an official backbone{nearest(name, list(CLASSES))}")
    return backbone_config(part, state_dict, convnexts)


def single_vit(arguments: Arguments, read: Callable[[Arguments, Style], ViTConfig]) -> BackboneConfig:
    """Translate the arguments of one of the two ViT classes alone, with its feature pyramid.

    Args:
        arguments: of the official class.
        read: translates those of its class in this task.

    Raises:
        ConfigError: as `backbone_config`.
    """
    arguments.ignore("output_dtype", "start_level", "img_norm_cfg")
    arguments.choose("with_fpn", {True: True})
    arguments.choose("use_simple_fpn", {True: True}, True)
    branch = read(arguments, SINGLE[arguments.get("type", str)])
    indices = arguments.get("out_indices", (list, tuple), [branch.depth - 1])
    last = indices[-1] if indices else None  # of the others, nothing goes into the feature pyramid
    if type(last) is not int or last not in range(branch.depth):
        raise ConfigError(f"{arguments.where}.out_indices: expected numbers of blocks, got {indices!r}")
    arguments.finish()
    with arguments.blamed():
        branch = replace(branch, stages=(last + 1,), unused_blocks=branch.depth - last - 1)
        return BackboneConfig(pyramid=_alone(branch), merging=None, levels=SIMPLE_LEVELS, upsampling_norm="layernorm")


def _alone(branch: AnyBranchConfig) -> PyramidConfig:
    return PyramidConfig(branches=(branch,), interaction=InteractionConfig(edges=()))


def _pyramid(arguments: Arguments, state_dict: Mapping[str, Any] | None, convnexts: Architectures) -> BackboneConfig:
    arguments.ignore("pretrained", "cal_flops", "img_norm_cfg")  # the first is of the whole model
    of_branches = branch_arguments(arguments)
    branches = [detection_branch(branch, convnexts) for branch in of_branches]
    for read in of_branches:
        read.finish()
    if len(branches) == 4:
        branches[3] = _fourth(arguments, branches[3], state_dict, convnexts)
    check_sizes(arguments, branches)
    interaction = read_interaction(arguments)
    levels, merging = _levels(arguments, branches)
    arguments.finish()
    with arguments.blamed():
        pyramid = PyramidConfig(branches=tuple(branches), interaction=interaction)
        return BackboneConfig(pyramid=pyramid, merging=merging, levels=levels)


def check_sizes(arguments: Arguments, branches: Sequence[AnyBranchConfig]) -> None:
    """Refuse a pyramid in which a branch sees a larger image than the last one."""
    sizes = [branch.image_size for branch in branches]
    if max(sizes) > sizes[-1]:
        raise ConfigError(
            f"{arguments.where}: real_size: officially the last branch sees the largest image, and the maps of the "
            f"others become as large as its own; but the sizes are {sizes}"
        )


def _fourth(
    arguments: Arguments, own: AnyBranchConfig, state_dict: Mapping[str, Any] | None, convnexts: Architectures
) -> AnyBranchConfig:
    """Branch 4: officially it has the arguments of branch 3, but for its image and stages, whatever its own are.

    Checkpoints may be of a version in which it was not so: the width in them decides.
    """
    third, fourth = (arguments.get(name, Mapping) for name in ("branch3", "branch4"))
    mixed = {**third, **{name: fourth[name] for name in ("real_size", "interaction_indexes") if name in fourth}}
    copied = detection_branch(Arguments(mixed, f"{arguments.where}.branch4"), convnexts)
    widths = [tensor.shape[-1] for name, tensor in (state_dict or {}).items() if name.endswith(_BRANCH4_WIDTH)]
    if not widths:
        return copied
    for branch in (copied, own):
        if branch.channels[-1] == widths[0]:
            return branch
    raise ConfigError(
        f"{arguments.where}.branch4: is {widths[0]} wide in the state dict, but {own.channels[-1]} by its own "
        f"arguments, and {copied.channels[-1]} by those of branch 3, which the official code takes for it"
    )


def _levels(arguments: Arguments, branches: list[AnyBranchConfig]) -> tuple[tuple[LevelConfig, ...], ConvMergingConfig]:
    is_dino = arguments.get("is_dino", bool, False)
    indexes = arguments.get("out_interaction_indexes", (list, tuple, type(None)), None)
    if arguments.get("with_simple_fpn", bool, True):
        return (DINO_LEVELS if is_dino else SIMPLE_LEVELS), ConvMergingConfig()
    if is_dino:
        raise ConfigError(f"{arguments.where}.is_dino: no official model has it with with_simple_fpn=False")
    if indexes is None or len(indexes) != len(_SCALES) - 1 or any(type(index) is not int for index in indexes):
        raise ConfigError(
            f"{arguments.where}.out_interaction_indexes: expected the numbers of {len(_SCALES) - 1} interactions, from "
            f"0 on, got {indexes!r}"
        )
    resizes = not isinstance(branches[-1], ConvNeXtConfig)  # whose maps have several sizes already
    levels = tuple(
        LevelConfig(stage=stage, scale=scale if resizes else 1)
        for stage, scale in zip((*indexes, -1), _SCALES, strict=True)
    )
    return levels, ConvMergingConfig(form="light")
