"""Which of our models the official constructors cannot build."""

from collections.abc import Iterator
from dataclasses import replace

from piip.branches import AnyBranchConfig, ConvNeXtConfig, UniPerceiverConfig, ViTConfig
from piip.pyramid import BackboneConfig, InteractionConfig, PyramidConfig
from piip.pyramid.interaction import interaction_units
from piip.tasks.classification.heads import MergedHeadConfig, SeparateHeadsConfig
from piip.tasks.classification.model import ClassificationConfig
from piip.tasks.detection.detector import DetectorConfig
from piip.tasks.detection.dino import DINOConfig
from piip.tasks.models import AnyModelConfig
from piip.tasks.segmentation.upernet import UperNetConfig
from piip.zoo.official.classification import sizes_seen
from piip.zoo.official.detection import DINO_LEVELS, SIMPLE_LEVELS
from piip.zoo.official.dino import EMBED_DIM as DINO_EMBED_DIM
from piip.zoo.official.segmentation import INPUT_BRANCH_OF_THREE
from piip.zoo.official.vit import is_internvit

_PATCH_SIZE = 16  # of every branch of an official pyramid
_FRAMES = 8  # that the official Uni-Perceiver has embeddings for


def naming_limits(config: AnyModelConfig) -> Iterator[str]:
    """Say what keeps the tensors after the branches from having official names."""
    if isinstance(config, DetectorConfig | UperNetConfig):  # the heads of which the official code can have too
        config = config.backbone
    return _levels(config) if isinstance(config, BackboneConfig) else _head(config)


def model_limits(config: AnyModelConfig) -> Iterator[str]:
    """Say what the official constructors have no arguments for, beside `naming_limits`.

    What only matters in training, as the rule of the drop path, is not looked at.
    """
    if isinstance(config, DINOConfig) and config.transformer.embed_dim != DINO_EMBED_DIM:
        yield f"transformer.embed_dim: {config.transformer.embed_dim}; officially {DINO_EMBED_DIM}"
    if isinstance(config, UperNetConfig):
        yield from _segmentation_backbone(config.backbone)
    if isinstance(config, DetectorConfig | UperNetConfig):
        config = config.backbone
    yield from _edges(config.pyramid)
    alone = len(config.pyramid.branches) == 1
    limits = _backbone_branch if isinstance(config, BackboneConfig) else _classifier_branch
    for number, branch in enumerate(config.pyramid.branches, 1):
        yield from (f"branch {number}, {limit}" for limit in limits(branch, alone))
    if isinstance(config, BackboneConfig):
        yield from _image_sizes(config.pyramid)
    else:
        yield from _classifier(config)


def _edges(pyramid: PyramidConfig) -> Iterator[str]:
    count = len(pyramid.branches)
    if count > 4:
        yield f"branches: {count}; officially there are one to four"
    edges = pyramid.interaction.edges_between(count)
    official = InteractionConfig().edges_between(count)
    if [set(unit) for unit in interaction_units(edges)] != [set(unit) for unit in interaction_units(official)]:
        yield f"interaction.edges: {edges}; officially both ways between neighbours, from the last branch to the first"
    if edges and pyramid.interaction.turns != 1:
        yield f"interaction.turns: {pyramid.interaction.turns}; officially all edges run after every stage"


def _vit(branch: ViTConfig, alone: bool) -> Iterator[str]:
    if branch.in_channels != 3:
        yield f"in_channels: {branch.in_channels}; officially 3"
    if not alone and branch.patch_size != _PATCH_SIZE:
        yield f"patch_size: {branch.patch_size}; officially {_PATCH_SIZE} in a pyramid"
    if is_internvit(branch):
        if branch.layer_scale == 0:
            yield "layer_scale: 0.0; officially InternViT6B starts it from another number, or has none"
        if any(branch.windows) and branch.window_padding != "tokens":
            yield f"window_padding: {branch.window_padding!r}; officially 'tokens' in InternViT6B"
        return
    if branch.norm != "layernorm":
        yield f"norm: {branch.norm!r}; officially 'layernorm' in vit_models"
    if branch.qk_norm:
        yield "qk_norm: True; officially False in vit_models"
    if branch.layer_scale is None:
        yield "layer_scale: None; officially vit_models always has it"


# Classification


def _head(config: ClassificationConfig) -> Iterator[str]:
    head, count = config.head, len(config.pyramid.branches)
    merges = isinstance(head, MergedHeadConfig)
    if merges and count == 1:
        yield "head: a MergedHeadConfig on 1 branch; officially a branch that stands alone has its own head"
    chosen = head.merging.branches if isinstance(head, MergedHeadConfig) else head.branches
    if chosen not in (None, tuple(range(1, count + 1))):
        field = "head.merging.branches" if merges else "head.branches"
        yield f"{field}: {chosen}; officially all {count} branches have a part in the head, in their order"


def _classifier_branch(branch: AnyBranchConfig, alone: bool) -> Iterator[str]:
    if not isinstance(branch, ViTConfig):
        yield f"a {type(branch).__name__}; officially classifiers have ViTs alone"
        return
    yield from _vit(branch, alone)
    class_position = "added" if alone and branch.class_token else "unused"
    if branch.class_pos_embed not in ("none", class_position):
        yield f"class_pos_embed: {branch.class_pos_embed!r}; officially {class_position!r} in this place"


def _classifier(config: ClassificationConfig) -> Iterator[str]:
    branches = [branch for branch in config.pyramid.branches if isinstance(branch, ViTConfig)]
    if len(branches) == len(config.pyramid.branches):
        yield from _positions(tuple(branches), config.pyramid.interaction)
    yield from _widths(config.pyramid)
    if isinstance(config.head, SeparateHeadsConfig) and config.head.num_classes:
        yield from _separate_heads(config.head, config.pyramid)


def _positions(branches: tuple[ViTConfig, ...], interaction: InteractionConfig) -> Iterator[str]:
    """Positions are stored for the image size that a constructor is given; from that follows what a branch sees."""
    written = tuple(
        branch
        if branch.pos_embed_grid == branch.image_size // branch.patch_size
        else replace(branch, image_size=branch.pos_embed_grid * branch.patch_size, pos_embed_size=None)
        for branch in branches
    )
    for number, (branch, seen) in enumerate(zip(branches, sizes_seen(written, interaction), strict=True), 1):
        if (branch.image_size, branch.pos_embed_grid) != (seen.image_size, seen.pos_embed_grid):
            yield (
                f"branch {number}, image_size, pos_embed_size: {branch.image_size}, {branch.pos_embed_size}; "
                f"officially {seen.image_size}, {seen.pos_embed_size}"
            )


def _widths(pyramid: PyramidConfig) -> Iterator[str]:
    widths = [branch.channels[-1] for branch in pyramid.branches]
    if widths != sorted(widths, reverse=True):
        yield f"embed_dim: {widths}; officially no branch is wider than the one before it"


def _separate_heads(head: SeparateHeadsConfig, pyramid: PyramidConfig) -> Iterator[str]:
    class_tokens = [branch.class_token for branch in pyramid.branches]
    reads = "class_token" if class_tokens == [True] else "first_patch"
    if head.reads != reads:
        yield f"head.reads: {head.reads!r}; officially {reads!r} in this place"
    if len(class_tokens) > 1 and not all(class_tokens):
        yield f"class_token: {class_tokens}; officially every branch of a pyramid with separate heads has one"


# Detection


def _levels(config: BackboneConfig) -> Iterator[str]:
    if len(config.pyramid.branches) > 1:
        yield from _pyramid_levels(config)
        return
    if config.merging is not None:
        yield "merging: on 1 branch; officially a branch that stands alone has none"
    scales = [level.scale for level in config.levels]
    if isinstance(config.pyramid.branches[0], ConvNeXtConfig):
        if config.stages != tuple(range(config.pyramid.num_stages)) or set(scales) != {1}:
            yield f"levels: {_shown(config)}; officially the map after each stage of a ConvNeXt, at scale 1"
        return
    if config.upsampling_norm != "layernorm":
        yield f"upsampling_norm: {config.upsampling_norm!r}; officially 'layernorm' with one branch"
    if not _is_simple(config, [level.scale for level in SIMPLE_LEVELS]):
        yield f"levels: {_shown(config)}; officially the last stage at the scales 4, 2, 1, 1/2"


def _pyramid_levels(config: BackboneConfig) -> Iterator[str]:
    count = len(config.pyramid.branches)
    if config.merging is not None and config.merging.branches not in (None, tuple(range(1, count + 1))):
        yield f"merging.branches: {config.merging.branches}; officially all {count} are merged, in their order"
    if config.upsampling_norm != "groupnorm":
        yield f"upsampling_norm: {config.upsampling_norm!r}; officially 'groupnorm' with several branches"
    if config.merging is not None and config.merging.form == "deep":
        if not any(_is_simple(config, [level.scale for level in levels]) for levels in (SIMPLE_LEVELS, DINO_LEVELS)):
            yield f"levels: {_shown(config)}; officially the last stage at the scales 4, 2, 1, 1/2 or 2, 1, 1/2"
        return
    resizes = not isinstance(config.pyramid.branches[-1], ConvNeXtConfig)
    scales = [level.scale for level in SIMPLE_LEVELS] if resizes else [1, 1, 1, 1]
    last = config.pyramid.num_stages - 1
    fits = [level.scale for level in config.levels] == scales and len(set(config.stages)) == 4
    if not fits or config.stages[-1] != last:
        yield (
            f"levels: {_shown(config)}; officially with light merging and this last branch four different stages, the "
            f"last of them {last}, at the scales {scales}"
        )


def _is_simple(config: BackboneConfig, scales: list[float]) -> bool:
    return set(config.stages) == {config.pyramid.num_stages - 1} and [level.scale for level in config.levels] == scales


def _shown(config: BackboneConfig) -> str:
    """The levels as (stage, scale)."""
    return str([(stage, level.scale) for stage, level in zip(config.stages, config.levels, strict=True)])


def _backbone_branch(branch: AnyBranchConfig, alone: bool) -> Iterator[str]:
    if branch.class_token:
        yield "class_token: True; officially False in detection"
    if isinstance(branch, ViTConfig):
        yield from _vit(branch, alone)
        return
    if branch.in_channels != 3:
        yield f"in_channels: {branch.in_channels}; officially 3"
    if isinstance(branch, ConvNeXtConfig):
        if not branch.layer_scale:
            yield f"layer_scale: {branch.layer_scale}; officially a ConvNeXt starts it from another number than 0"
        return
    if alone:
        yield f"a {type(branch).__name__}; officially only ViTs and ConvNeXts stand alone"
    if branch.patch_size != _PATCH_SIZE:
        yield f"patch_size: {branch.patch_size}; officially {_PATCH_SIZE} in a pyramid"
    if isinstance(branch, UniPerceiverConfig) and branch.layer_scale is None:
        yield "layer_scale: None; officially a Uni-Perceiver always has it"
    if isinstance(branch, UniPerceiverConfig) and branch.num_frames != _FRAMES:
        yield f"num_frames: {branch.num_frames}; officially {_FRAMES}"


def _image_sizes(pyramid: PyramidConfig) -> Iterator[str]:
    sizes = [branch.image_size for branch in pyramid.branches]
    if max(sizes) > sizes[-1]:
        yield f"image_size: {sizes}; officially no branch sees a larger image than the last one"
    second_of_three = len(sizes) == 3 and pyramid.image_size == sizes[INPUT_BRANCH_OF_THREE - 1]
    if pyramid.image_size != sizes[-1] and not second_of_three:
        yield (
            f"input_branch: {pyramid.input_branch}; officially the last branch is given the image, or in segmentation "
            f"branch {INPUT_BRANCH_OF_THREE} of three"
        )


# Segmentation, beside what there is in detection


def _segmentation_backbone(config: BackboneConfig) -> Iterator[str]:
    branches = config.pyramid.branches
    if len(branches) > 3:
        yield f"branches: {len(branches)}; officially there are one to three in segmentation"
    if len(branches) == 3 and config.pyramid.image_size != branches[INPUT_BRANCH_OF_THREE - 1].image_size:
        yield (
            f"input_branch: {config.pyramid.input_branch}; officially branch {INPUT_BRANCH_OF_THREE} of three is given "
            "the image in segmentation"
        )
    if not _is_simple(config, [level.scale for level in SIMPLE_LEVELS]):
        yield f"levels: {_shown(config)}; officially the last stage at the scales 4, 2, 1, 1/2 in segmentation"
    if config.merging is not None and config.merging.form != "deep":
        yield f"merging.form: {config.merging.form!r}; officially 'deep' in segmentation"
    for number, branch in enumerate(branches, 1):
        if not isinstance(branch, ViTConfig):
            yield f"branch {number}, a {type(branch).__name__}; officially segmentors have ViTs alone"
        elif branch.pos_embed_grid != branch.image_size // branch.patch_size:
            yield (
                f"branch {number}, pos_embed_size: {branch.pos_embed_size}; officially that of its image in "
                f"segmentation, {branch.image_size}"
            )
