"""Parameters and multiply-adds as the official release counts them.

The release has two scripts. One rebuilds a detector or segmentor of ViTs as a classifier of 1000 classes, and so leaves
out the convolutions that merge the branches, the feature pyramid, the neck and the heads, and stores positions for the
image size of each branch; all its tables but one are of this script. The other runs the backbone of a detector up to
the merging: it gave the table of ConvNeXts.

Both count linear layers (without their biases), convolutions (with them), LayerNorm and GroupNorm (two operations a
number; other norms none) and ReLU, and add formulas for attention. A multiply-add counts once. Their quirks are kept:
attention in windows multiplies by the tokens without padding, and deformable attention counts four points at the full
width of the queries.
"""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import torch

from piip.branches import ViTConfig
from piip.costs.amounts import Amount, count_parameters, pyramid_parameters
from piip.costs.formulas import (
    Size,
    TokenMap,
    branch_flops,
    conv_merging_flops,
    final_norm_flops,
    injector_flops,
    level_flops,
    linear_merging_flops,
    token_maps,
    unused_params,
)
from piip.pyramid import BackboneConfig, PyramidConfig
from piip.pyramid.merging import LinearMergingConfig, select_branches
from piip.tasks.classification.heads import MergedHeadConfig, SeparateHeadsConfig
from piip.tasks.classification.model import ClassificationConfig

_CLASSES = 1000  # of the classifier that a detector or segmentor is rebuilt as


def official_cost(config: ClassificationConfig | BackboneConfig, size: Size) -> dict[str, Amount]:
    """Count a model as the release's tables do.

    Args:
        config: of a classifier, or of the backbone of a detector or segmentor.
        size: height and width of the image. Parameters are those of the image size of the configuration.

    Returns:
        Multiply-adds and parameters of each part.
    """
    if isinstance(config, ClassificationConfig):
        return classifier_cost(config, size)
    rebuilt = as_classifier(config)
    return backbone_cost(config, size) if rebuilt is None else classifier_cost(rebuilt, size)


def as_classifier(config: BackboneConfig) -> ClassificationConfig | None:
    """What the first script rebuilds a detector or segmentor as; None where it cannot: it knows ViTs only."""
    pyramid = config.pyramid
    branches = [branch for branch in pyramid.branches if isinstance(branch, ViTConfig)]
    if len(branches) < len(pyramid.branches):
        return None
    rebuilt = replace(pyramid, branches=tuple(map(_without_flash_attention, branches)))
    if config.merging is None:
        return ClassificationConfig(pyramid=rebuilt, head=SeparateHeadsConfig(num_classes=_CLASSES))
    merging = LinearMergingConfig(branches=config.merging.branches)
    return ClassificationConfig(pyramid=rebuilt, head=MergedHeadConfig(num_classes=_CLASSES, merging=merging))


def _without_flash_attention(branch: ViTConfig) -> ViTConfig:
    """The branch as that script builds it: DeiTs, which have no position for a class token, pad after `qkv` then."""
    padding = "qkv" if branch.class_pos_embed == "none" else branch.window_padding
    return replace(branch, pos_embed_size=None, class_token=False, window_padding=padding)


def classifier_cost(config: ClassificationConfig, size: Size) -> dict[str, Amount]:
    """Count a classifier by the first script.

    Args:
        config: of the classifier.
        size: height and width of the image. Parameters are those of the image size of the configuration.

    Returns:
        Multiply-adds and parameters of each branch, the interactions, the merging if there is one, and the head.
    """
    pyramid, maps = config.pyramid, _maps(config.pyramid, size)[-1]
    flops = dict(_pyramid_flops(pyramid, size))
    with torch.device("meta"):
        model = config.build()
    params = pyramid_parameters(model.pyramid)
    params["head"] = count_parameters(model.head)
    if isinstance(config.head, MergedHeadConfig):
        branches = select_branches(config.head.merging.branches, len(maps), "merging.branches")
        flops["merging"] = linear_merging_flops(branches, maps)
        params["merging"] = count_parameters(model.head.get_submodule("merging"))
        params["head"] -= params["merging"]
    flops["head"] = _head_flops(config, maps)
    return {name: Amount(flops[name], params[name]) for name in flops}


def backbone_cost(config: BackboneConfig, size: Size) -> dict[str, Amount]:
    """Count a backbone by the second script.

    Args:
        config: of the backbone.
        size: height and width of the image.

    Returns:
        Multiply-adds and parameters of each branch, the interactions, the merging, and the levels. Of those the
        script counts the operations only where there is no merging.
    """
    pyramid, maps = config.pyramid, _maps(config.pyramid, size)
    flops = dict(_pyramid_flops(pyramid, size))
    with torch.device("meta"):
        model = config.build()
    params = pyramid_parameters(model.pyramid)
    for number, branch in enumerate(pyramid.branches, 1):
        params[f"branch {number}"] += unused_params(branch)
    if config.merging is None:
        pairs = zip(config.stages, config.levels, strict=True)
        flops["levels"] = sum(level_flops(level.scale, maps[stage][0]) for stage, level in pairs)
    else:
        flops["merging"] = sum(conv_merging_flops(config.merging, maps[stage]) for stage in set(config.stages))
        flops["levels"] = 0
        params["merging"] = count_parameters(model.merging)
    params["levels"] = count_parameters(model.levels)
    return {name: Amount(flops[name], params[name]) for name in flops}


def _pyramid_flops(pyramid: PyramidConfig, size: Size) -> Iterator[tuple[str, int]]:
    for number, own_size in enumerate(_sizes(pyramid, size), 1):
        yield f"branch {number}", branch_flops(pyramid.branches[number - 1], own_size)
    interaction = pyramid.interaction
    yield (
        "interactions",
        sum(
            injector_flops(interaction, maps[query - 1], maps[source - 1])
            for stage, maps in enumerate(_maps(pyramid, size))
            for query, source in interaction.edges_after(stage, len(maps))
        ),
    )


def _head_flops(config: ClassificationConfig, maps: list[TokenMap]) -> int:
    """Norms of all cells, and classifiers."""
    head, branches = config.head, config.pyramid.branches
    if not head.num_classes:
        return 0
    if isinstance(head, MergedHeadConfig):
        dim = maps[select_branches(head.merging.branches, len(maps), "merging.branches")[0] - 1].dim
        return TokenMap(maps[config.pyramid.finest - 1].cells, dim).norm + dim * head.num_classes
    return sum(
        final_norm_flops(branches[number - 1], maps[number - 1].cells) + maps[number - 1].dim * head.num_classes
        for number in select_branches(head.branches, len(maps), "head.branches")
    )


def _maps(pyramid: PyramidConfig, size: Size) -> list[list[TokenMap]]:
    """The maps of all branches after each stage."""
    of_branches = [token_maps(branch, own) for branch, own in zip(pyramid.branches, _sizes(pyramid, size), strict=True)]
    return [list(stage) for stage in zip(*of_branches, strict=True)]


def _sizes(pyramid: PyramidConfig, size: Size) -> list[Size]:
    """The image of each branch; see `resize_in_proportion`."""
    ratios = [Fraction(branch.image_size, pyramid.image_size) for branch in pyramid.branches]
    return [(int(size[0] * ratio), int(size[1] * ratio)) for ratio in ratios]
