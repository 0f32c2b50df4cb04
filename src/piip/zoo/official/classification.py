"""The official constructor arguments of classifiers, as our configuration."""

from dataclasses import replace

from piip.branches import ViTConfig
from piip.config import ConfigError
from piip.pyramid import InteractionConfig, PyramidConfig
from piip.tasks.classification.heads import MergedHeadConfig, SeparateHeadsConfig
from piip.tasks.classification.model import ClassificationConfig, HeadConfig
from piip.zoo.official.arguments import Arguments
from piip.zoo.official.pyramid import NUM_BRANCHES, branch_arguments, read_interaction
from piip.zoo.official.vit import SINGLE, Style, classification_vit, is_internvit

CLASSES = (*NUM_BRANCHES, *SINGLE)

_MODEL_TYPES: dict[str, Style] = {"deit": "deit", "augreg": "internvit"}


def classification_config(arguments: Arguments) -> ClassificationConfig:
    """Translate the arguments of a pyramid, or of one of the two ViT classes alone.

    Raises:
        ConfigError: for arguments that are missing, of the wrong type, or mean what cannot be run.
    """
    return _single(arguments) if arguments.get("type", str) in SINGLE else _pyramid(arguments)


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


def _single(arguments: Arguments) -> ClassificationConfig:
    branch = classification_vit(arguments, SINGLE[arguments.get("type", str)], alone=True)
    with_head = arguments.get("use_final_norm_and_head", bool, True)
    head = SeparateHeadsConfig(
        num_classes=_num_classes(arguments, used=with_head),
        reads="class_token" if branch.class_token else "first_patch",
    )
    arguments.finish()
    pyramid = PyramidConfig(branches=(branch,), interaction=InteractionConfig(edges=()))
    return ClassificationConfig(pyramid=pyramid, head=head)


def _pyramid(arguments: Arguments) -> ClassificationConfig:
    arguments.ignore("pretrained")  # weights for the whole model
    of_branches = branch_arguments(arguments)
    branches = tuple(_branch(branch) for branch in of_branches)
    head = _head(arguments, of_branches)
    interaction = read_interaction(arguments)
    branches = sizes_seen(branches, interaction)
    for read in (arguments, *of_branches):
        read.finish()
    with arguments.blamed():
        return ClassificationConfig(pyramid=PyramidConfig(branches=branches, interaction=interaction), head=head)


def _branch(arguments: Arguments) -> ViTConfig:
    arguments.ignore("use_final_norm_and_head")  # the pyramid sets it, from its own separate_head
    return classification_vit(arguments, arguments.choose("model_type", _MODEL_TYPES, "deit"), alone=False)


def _num_classes(arguments: Arguments, *, used: bool) -> int:
    """The number of classes; 0 where the head is left out."""
    number: int = arguments.get("num_classes", int, 1000)
    if used and number < 1:
        raise ConfigError(f"{arguments.where}.num_classes: must be at least 1, got {number}")
    return number if used else 0


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
