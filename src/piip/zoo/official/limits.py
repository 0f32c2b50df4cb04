"""Which of our models the official constructors cannot build."""

from collections.abc import Iterator
from dataclasses import replace

from piip.branches import ViTConfig
from piip.pyramid import InteractionConfig, PyramidConfig
from piip.pyramid.interaction import interaction_units
from piip.tasks.classification.heads import MergedHeadConfig, SeparateHeadsConfig
from piip.tasks.classification.model import ClassificationConfig
from piip.zoo.official.branches import is_internvit, sizes_seen

_PATCH_SIZE = 16  # of every branch of an official pyramid


def head_limits(config: ClassificationConfig) -> Iterator[str]:
    """Say what keeps the tensors of the head from having official names."""
    head, count = config.head, len(config.pyramid.branches)
    merges = isinstance(head, MergedHeadConfig)
    if merges and count == 1:
        yield "head: a MergedHeadConfig on 1 branch; officially a branch that stands alone has its own head"
    chosen = head.merging.branches if isinstance(head, MergedHeadConfig) else head.branches
    if chosen not in (None, tuple(range(1, count + 1))):
        field = "head.merging.branches" if merges else "head.branches"
        yield f"{field}: {chosen}; officially all {count} branches have a part in the head, in their order"


def model_limits(config: ClassificationConfig) -> Iterator[str]:
    """Say what the official constructors have no arguments for, but for the head's own tensors.

    What only matters in training, as the rule of the drop path, is not looked at.
    """
    yield from _edges(config.pyramid)
    alone = len(config.pyramid.branches) == 1
    for number, branch in enumerate(config.pyramid.branches, 1):
        for field, fits, official in _branch_rules(branch, alone):
            if not fits:
                yield f"branch {number}, {field}: {getattr(branch, field)!r}; officially {official}"
    yield from _sizes(config.pyramid)
    yield from _widths(config.pyramid)
    if isinstance(config.head, SeparateHeadsConfig) and config.head.num_classes:
        yield from _separate_heads(config.head, config.pyramid)


def _edges(pyramid: PyramidConfig) -> Iterator[str]:
    count = len(pyramid.branches)
    if count > 4:
        yield f"branches: {count}; officially there are one to four"
    edges = pyramid.interaction.edges_between(count)
    official = InteractionConfig().edges_between(count)
    if [set(unit) for unit in interaction_units(edges)] != [set(unit) for unit in interaction_units(official)]:
        yield f"interaction.edges: {edges}; officially both ways between neighbours, from the last branch to the first"


def _branch_rules(branch: ViTConfig, alone: bool) -> Iterator[tuple[str, bool, str]]:
    """Each field with a restriction: whether the branch keeps it, and what it is."""
    yield "in_channels", branch.in_channels == 3, "3"
    yield "patch_size", alone or branch.patch_size == _PATCH_SIZE, f"{_PATCH_SIZE} in a pyramid"
    if is_internvit(branch):
        class_position = "added" if alone and branch.class_token else "unused"
        windowed = any(branch.windows)
        yield "class_pos_embed", branch.class_pos_embed == class_position, f"{class_position!r} in this place"
        yield "layer_scale", branch.layer_scale != 0, "InternViT6B starts it from another number than 0, or has none"
        yield "window_padding", not windowed or branch.window_padding == "tokens", "'tokens' in InternViT6B"
    else:
        yield "norm", branch.norm == "layernorm", "'layernorm' in vit_models"
        yield "qk_norm", not branch.qk_norm, "False in vit_models"
        yield "layer_scale", branch.layer_scale is not None, "vit_models always has it"


def _sizes(pyramid: PyramidConfig) -> Iterator[str]:
    """Positions are stored for the image size that a constructor is given; from that follows what a branch sees."""
    written = tuple(
        branch
        if branch.pos_embed_grid == branch.image_size // branch.patch_size
        else replace(branch, image_size=branch.pos_embed_grid * branch.patch_size, pos_embed_size=None)
        for branch in pyramid.branches
    )
    for number, (branch, seen) in enumerate(
        zip(pyramid.branches, sizes_seen(written, pyramid.interaction), strict=True), 1
    ):
        if (branch.image_size, branch.pos_embed_grid) != (seen.image_size, seen.pos_embed_grid):
            yield (
                f"branch {number}, image_size, pos_embed_size: {branch.image_size}, {branch.pos_embed_size}; "
                f"officially {seen.image_size}, {seen.pos_embed_size}"
            )


def _widths(pyramid: PyramidConfig) -> Iterator[str]:
    widths = [branch.embed_dim for branch in pyramid.branches]
    if widths != sorted(widths, reverse=True):
        yield f"embed_dim: {widths}; officially no branch is wider than the one before it"


def _separate_heads(head: SeparateHeadsConfig, pyramid: PyramidConfig) -> Iterator[str]:
    class_tokens = [branch.class_token for branch in pyramid.branches]
    reads = "class_token" if class_tokens == [True] else "first_patch"
    if head.reads != reads:
        yield f"head.reads: {head.reads!r}; officially {reads!r} in this place"
    if len(class_tokens) > 1 and not all(class_tokens):
        yield f"class_token: {class_tokens}; officially every branch of a pyramid with separate heads has one"
