"""Our model for an official constructor dict."""

from collections.abc import Mapping
from typing import Any

from piip.branches import ViTConfig
from piip.config import ConfigError, nearest
from piip.pyramid import InteractionConfig, PyramidConfig
from piip.tasks.classification.heads import MergedHeadConfig, SeparateHeadsConfig
from piip.tasks.classification.model import ClassificationConfig, ClassificationModel, HeadConfig
from piip.zoo.official.arguments import Arguments
from piip.zoo.official.branches import sizes_seen, vit_config

_NUM_BRANCHES = {"PIIPTwoBranch": 2, "PIIPThreeBranch": 3, "PIIPFourBranch": 4}
_SINGLE = {"vit_models": "deit", "InternViT6B": "internvit"}


def build_model(config: Mapping[str, Any], task: str = "classification") -> ClassificationModel:
    """Build our model from the constructor dict of an official one, as the official configurations write it.

    Args:
        config: `{"type": "PIIPThreeBranch", ...}`, or of type `PIIPTwoBranch`, `PIIPFourBranch`, `vit_models` or
            `InternViT6B`, with the arguments of the official class.
        task: which of the official code bases the class is from; each has its own flavour of it.

    Raises:
        ConfigError: for a type, argument or value that is not known or cannot be run, naming it.
    """
    return model_config(config, task).build()


def model_config(config: Mapping[str, Any], task: str = "classification") -> ClassificationConfig:
    """Translate an official constructor dict into our configuration; see `build_model`."""
    if task != "classification":
        raise ConfigError(f"task: {task!r} cannot be built yet; this version has 'classification'")
    arguments = Arguments(config, "config")
    name = arguments.get("type", str)
    known = [*_NUM_BRANCHES, *_SINGLE]
    if name not in known:
        raise ConfigError(f"config.type: {name!r} is not an official backbone{nearest(name, known)}")
    arguments.where = name
    return _single(arguments, _SINGLE[name]) if name in _SINGLE else _pyramid(arguments, _NUM_BRANCHES[name])


def _single(arguments: Arguments, style: str) -> ClassificationConfig:
    branch = vit_config(arguments, style, alone=True)
    with_head = arguments.get("use_final_norm_and_head", bool, True)
    head = SeparateHeadsConfig(
        num_classes=_num_classes(arguments, used=with_head),
        reads="class_token" if branch.class_token else "first_patch",
    )
    arguments.finish()
    pyramid = PyramidConfig(branches=(branch,), interaction=InteractionConfig(edges=()))
    return ClassificationConfig(pyramid=pyramid, head=head)


def _pyramid(arguments: Arguments, num_branches: int) -> ClassificationConfig:
    names = [f"branch{number}" for number in range(1, num_branches + 1)]
    arguments.ignore("pretrained")  # weights for the whole model
    branch_arguments = [Arguments(arguments.get(name, Mapping), f"{arguments.where}.{name}") for name in names]
    branches = tuple(_branch(branch) for branch in branch_arguments)
    head = _head(arguments, branch_arguments)
    try:
        interaction = _interaction(arguments)
        branches = sizes_seen(branches, interaction)
        for read in (arguments, *branch_arguments):
            read.finish()
        return ClassificationConfig(pyramid=PyramidConfig(branches=branches, interaction=interaction), head=head)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{arguments.where}: {error}") from error


def _num_classes(arguments: Arguments, *, used: bool) -> int:
    """The number of classes; 0 where the head is left out."""
    number: int = arguments.get("num_classes", int, 1000)
    if used and number < 1:
        raise ConfigError(f"{arguments.where}.num_classes: must be at least 1, got {number}")
    return number if used else 0


def _branch(arguments: Arguments) -> ViTConfig:
    style = arguments.choose("model_type", {"deit": "deit", "augreg": "internvit"}, "deit")
    arguments.ignore("use_final_norm_and_head")  # the pyramid sets it, from its own separate_head
    return vit_config(arguments, style, alone=False)


def _interaction(arguments: Arguments) -> InteractionConfig:
    with_cffn = arguments.get("with_cffn", bool, False)
    cffn_ratio = float(arguments.get("cffn_ratio", float, 0.25))
    return InteractionConfig(
        attention=arguments.choose("interact_attn_type", {"deform": "deformable", "normal": "regular"}),
        num_heads=arguments.get("deform_num_heads", int),
        num_points=arguments.get("n_points", int),
        value_ratio=float(arguments.get("deform_ratio", float)),
        projection=arguments.get("interaction_proj", bool, True),
        norm=arguments.choose("norm_layer", {None: True, "LayerNorm": True, "none": False}, None),
        ffn_ratio=cffn_ratio if with_cffn else None,
        drop_path=float(arguments.get("interaction_drop_path_rate", float, 0.0)),
    )


def _head(arguments: Arguments, branches: list[Arguments]) -> HeadConfig:
    separate = arguments.get("separate_head", bool, False)
    with_head = arguments.get("use_cls_head", bool, True)
    classes = {branch.where: _num_classes(branch, used=separate) for branch in branches}
    merged_classes = _num_classes(arguments, used=with_head and not separate)
    if not separate:
        return MergedHeadConfig(num_classes=merged_classes)
    if len(set(classes.values())) > 1:
        raise ConfigError(f"num_classes: separate heads are averaged, so they need the same number; got {classes}")
    return SeparateHeadsConfig(num_classes=next(iter(classes.values())), reads="first_patch")
