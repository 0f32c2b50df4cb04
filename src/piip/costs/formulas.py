"""The official release's formulas for the multiply-adds of branches, interactions and merging.

All of them are of one image. See `piip.costs.official` for what is counted and what is not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from piip.branches import AnyBranchConfig, BEiTConfig, ConvNeXtConfig, UniPerceiverConfig, ViTConfig
from piip.branches.transformer import TransformerConfig
from piip.pyramid import ConvMergingConfig, InteractionConfig
from piip.pyramid.merging import select_branches

Size = tuple[int, int]
"""Height and width."""

_POINTS = 4  # of deformable attention, however many there are


class TokenMap(NamedTuple):
    """How many cells a map has, and how wide it is."""

    cells: int
    dim: int

    @property
    def norm(self) -> int:
        """A norm of the map: two operations a number."""
        return 2 * self.cells * self.dim


@dataclass(frozen=True)
class _Family:
    """What is counted of the branches of one architecture.

    Attributes:
        flops: of a branch on an image.
        unused_params: parameters that the official branch has, and ours has not, because they are never used.
    """

    flops: Callable[[Any, Size], int]
    unused_params: Callable[[Any], int]


def branch_flops(branch: AnyBranchConfig, size: Size) -> int:
    """The multiply-adds of a branch that sees an image of this size."""
    return _FAMILIES[type(branch)].flops(branch, size)


def unused_params(branch: AnyBranchConfig) -> int:
    """Parameters that the official branch has, and ours has not, because they are never used."""
    return _FAMILIES[type(branch)].unused_params(branch)


def token_maps(branch: AnyBranchConfig, size: Size) -> list[TokenMap]:
    """The map of a branch after each stage, when it sees an image of this size."""
    sides = [(size[0] // stride, size[1] // stride) for stride in branch.strides]
    return [TokenMap(height * width, dim) for (height, width), dim in zip(sides, branch.channels, strict=True)]


def _vit(branch: ViTConfig, size: Size) -> int:
    dim = branch.embed_dim
    has_norm = branch.norm == "layernorm"  # RMSNorm is not counted
    total = _patch_embedding(branch, size)
    tokens = _cells(branch, size) + branch.class_token
    for window in branch.windows[: sum(branch.stages)]:  # of the blocks that are run
        seen = tokens if window is None or branch.window_padding == "qkv" else _padded_cells(branch, size, window)
        total += 2 * TokenMap(tokens, dim).norm * has_norm + 2 * TokenMap(seen, dim).norm * has_norm * branch.qk_norm
        total += (3 * seen + tokens) * dim**2 + _attention(branch, size, window) + _mlp(branch, tokens)
    return total


def _beit(branch: BEiTConfig, size: Size) -> int:
    """The qkv projection is none of the layers that are looked at; that after the attention sees padded windows."""
    tokens = TokenMap(_cells(branch, size), branch.embed_dim)
    return _patch_embedding(branch, size) + sum(
        2 * tokens.norm
        + _attention(branch, size, window)
        + _padded_cells(branch, size, window) * tokens.dim**2
        + _mlp(branch, tokens.cells)
        for window in branch.windows[: sum(branch.stages)]
    )


def _uniperceiver(branch: UniPerceiverConfig, size: Size) -> int:
    tokens = TokenMap(_cells(branch, size), branch.embed_dim)
    total = _patch_embedding(branch, size) + tokens.norm
    for window in branch.windows[: sum(branch.stages)]:  # of the blocks that are run
        seen = tokens.cells if window is None else _padded_cells(branch, size, window)
        total += 2 * tokens.norm + (3 * seen + tokens.cells) * tokens.dim**2
        total += _attention(branch, size, window) + _mlp(branch, tokens.cells)
    return total


def _convnext(branch: ConvNeXtConfig, size: Size) -> int:
    """Its norms are of a type of their own, which is not counted."""
    total, left = 0, sum(branch.stages)  # blocks that are still to run
    for scale, (depth, dim) in enumerate(zip(branch.depths, branch.widths, strict=True)):
        side = 4 * 2**scale
        cells = (size[0] // side) * (size[1] // side)
        before, patch = (branch.widths[scale - 1], 2) if scale else (branch.in_channels, 4)
        if not scale or left:
            total += cells * dim * (patch**2 * before + 1)
            left -= bool(scale)
        run = min(depth, left)
        total += run * cells * dim * (49 + 1 + 8 * dim)
        left -= run
    return total


def _cells(branch: TransformerConfig, size: Size) -> int:
    return (size[0] // branch.patch_size) * (size[1] // branch.patch_size)


def _padded_cells(branch: TransformerConfig, size: Size, window: int) -> int:
    """Cells of the map when it is padded to whole windows."""
    height, width = (-(side // branch.patch_size // -window) * window for side in size)
    return height * width


def _patch_embedding(branch: TransformerConfig, size: Size) -> int:
    return _cells(branch, size) * branch.embed_dim * (branch.patch_size**2 * branch.in_channels + 1)


def _attention(branch: TransformerConfig, size: Size, window: int | None) -> int:
    """Scores and the sum weighted by them: without a class token, and without padding of what is multiplied.

    What is larger than the map counts as the map; the paper's figures for windows of 28 tokens on maps of 14 and 21
    come out so.
    """
    cells = _cells(branch, size)
    return 2 * cells * (cells if window is None else min(cells, window**2)) * branch.embed_dim


def _mlp(branch: TransformerConfig, tokens: int) -> int:
    return 2 * tokens * branch.embed_dim * int(branch.embed_dim * branch.mlp_ratio)


_FAMILIES: dict[type, _Family] = {
    ViTConfig: _Family(_vit, lambda _: 0),
    BEiTConfig: _Family(_beit, lambda _: 0),
    UniPerceiverConfig: _Family(_uniperceiver, lambda _: 0),
    ConvNeXtConfig: _Family(_convnext, lambda branch: 2 * branch.widths[-1]),  # a last norm
}


def final_norm_flops(branch: AnyBranchConfig, cells: int) -> int:
    """The operations of a norm before a head on a branch; a RMSNorm is not counted."""
    norm = branch.make_final_norm()
    return TokenMap(cells, branch.channels[-1]).norm if isinstance(norm, nn.LayerNorm) else 0


def injector_flops(config: InteractionConfig, query: TokenMap, source: TokenMap) -> int:
    """The multiply-adds of an edge after one stage."""
    dim = query.dim
    total = 0
    if config.projection:
        total += source.cells * source.dim * dim
        source = TokenMap(source.cells, dim)
    if config.norm:
        total += query.norm + source.norm
    if config.attention == "deformable":
        value_dim = int(dim * config.value_ratio)
        total += query.cells * dim * config.num_heads * config.num_points * 3
        total += source.cells * source.dim * value_dim + query.cells * value_dim * dim
        total += 5 * _POINTS * query.cells * dim
    else:
        total += 2 * query.cells * dim**2 + 2 * source.cells * source.dim * dim
        total += 2 * query.cells * source.cells * dim
    if config.ffn_ratio is not None:
        hidden = int(dim * config.ffn_ratio)
        total += query.norm * config.norm + 2 * query.cells * dim * hidden + 10 * query.cells * hidden
    return total


def linear_merging_flops(branches: tuple[int, ...], maps: list[TokenMap]) -> int:
    """The multiply-adds of a `LinearMerging` of these branches; `maps` are those of all branches."""
    first, *others = (maps[branch - 1] for branch in branches)
    return first.norm + sum(
        own.norm + own.cells * own.dim * first.dim + TokenMap(own.cells, first.dim).norm for own in others
    )


def conv_merging_flops(config: ConvMergingConfig, maps: list[TokenMap]) -> int:
    """The multiply-adds of a `ConvMerging`; `maps` are those of all branches."""
    branches = select_branches(config.branches, len(maps), "merging.branches")
    dim = maps[branches[0] - 1].dim
    total = 0
    for branch in branches:
        own = maps[branch - 1]
        convolutions = 2 if config.form == "deep" else int(branch != branches[0])
        norm_and_relu = TokenMap(own.cells, dim).norm + own.cells * dim
        total += max(convolutions, 1) * norm_and_relu
        total += sum(9 * own.cells * (dim if number else own.dim) * dim for number in range(convolutions))
    return total


def level_flops(scale: float, merged: TokenMap) -> int:
    """The multiply-adds of a map of `scale` times the size; its norm is of a type that is not counted."""
    cells, dim = merged
    doubling = 4 * cells * dim * (dim + 1)
    return {4: 5 * doubling, 2: doubling, 1: 0, 0.5: cells * dim}[scale]
