"""Interactions: branches read each other's features after each stage (paper, section 3.3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from piip.branches import Tokens
from piip.branches.layers import Linear
from piip.config import check_fields
from piip.pyramid.attention import CellCentres, DeformableCrossAttention, RegularCrossAttention

Edge = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class InteractionConfig:
    """How branches exchange features after each stage.

    Attributes:
        edges: directed edges (query branch, source branch), counted from 1, in the order in which they run. Edges
            in a row between the same two branches read the features from before the first of them. None for the
            paper's choice: both directions between neighbours, from the high-resolution end to the other.
            No edge at all, `()`, means no interaction.
        turns: after how many stages an edge runs again. 1 runs all edges after every stage; 2 runs the first, third,
            fifth ... of them after the first stage, the others after the second, and so on.
        attention: deformable or regular cross-attention.
        num_heads: heads of the cross-attention.
        num_points: points that a head of deformable attention samples.
        value_ratio: width of the values of deformable attention over the width of the query branch.
        projection: project the source to the width of the query branch first.
        norm: normalise the query, the source and the input of the feed-forward part (LayerNorm).
        ffn_ratio: hidden width of the convolutional feed-forward part over the width of the query branch; None to
            leave that part out.
        drop_path: probability of skipping the feed-forward part of a sample in training.
    """

    edges: tuple[Edge, ...] | None = None
    turns: int = 1
    attention: Literal["deformable", "regular"] = "deformable"
    num_heads: int = 16
    num_points: int = 4
    value_ratio: float = 0.5
    projection: bool = True
    norm: bool = True
    ffn_ratio: float | None = 0.25
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that no pyramid could use."""
        check_fields(self, "interaction.")
        for name in ("turns", "num_heads", "num_points"):
            if getattr(self, name) < 1:
                raise ValueError(f"interaction.{name}: must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"interaction.drop_path: must be in [0, 1), got {self.drop_path}")
        for name in ("value_ratio", "ffn_ratio"):
            ratio = getattr(self, name)
            if ratio is not None and not 0 < ratio < math.inf:
                raise ValueError(f"interaction.{name}: must be a positive number, got {ratio}")

    def edges_between(self, num_branches: int) -> tuple[Edge, ...]:
        """The edges of a pyramid of so many branches.

        Raises:
            ValueError: for an edge that names a branch that is not there, joins a branch to itself, or stands twice.
        """
        if self.edges is None:
            return tuple(
                edge for lower in range(num_branches - 1, 0, -1) for edge in ((lower, lower + 1), (lower + 1, lower))
            )
        for query, source in self.edges:
            if query == source or not {query, source} <= set(range(1, num_branches + 1)):
                raise ValueError(
                    f"interaction.edges: ({query}, {source}) does not join two of the {num_branches} branches, "
                    f"which are counted from 1"
                )
        if len(set(self.edges)) < len(self.edges):
            raise ValueError(f"interaction.edges: an edge stands twice in {self.edges}")
        return self.edges

    def edges_after(self, stage: int, num_branches: int) -> tuple[Edge, ...]:
        """Those of the edges that run after a stage, counted from 0.

        Raises:
            ValueError: as `edges_between` does.
        """
        return self.edges_between(num_branches)[stage % self.turns :: self.turns]

    def check_width(self, query: int, dim: int) -> None:
        """Refuse a query branch whose width the heads do not divide.

        Raises:
            ValueError: naming the branch, its width and the heads.
        """
        deformable = self.attention == "deformable"
        width = int(dim * self.value_ratio) if deformable else dim
        if width == 0 or width % self.num_heads:
            what = f"value width int({dim} * {self.value_ratio}) = {width}" if deformable else f"width {dim}"
            raise ValueError(f"interaction.num_heads: {self.num_heads} does not divide the {what} of branch {query}")
        if self.ffn_ratio is not None and int(dim * self.ffn_ratio) == 0:
            raise ValueError(f"interaction.ffn_ratio: {self.ffn_ratio} of the width {dim} of branch {query} is nothing")


class ConvFeedForward(nn.Module):
    """A feed-forward part with a depthwise 3x3 convolution before its activation."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden_dim)
        self.dwconv = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.fc2 = Linear(hidden_dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, H, W, dim) to the same shape."""
        hidden = self.dwconv(self.fc1(tokens).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.fc2(F.gelu(hidden))


class Injector(nn.Module):
    """One directed edge: adds what the query branch reads from the source branch to its features.

    Both additions are scaled by learned vectors that start at zero, so that a new pyramid computes what its
    pretrained branches compute.

    Args:
        config: the settings of all edges.
        dim: width of the query branch.
        source_dim: width of the source branch.
    """

    def __init__(self, config: InteractionConfig, dim: int, source_dim: int) -> None:
        super().__init__()
        self.source_proj = Linear(source_dim, dim) if config.projection else nn.Identity()
        read_dim = dim if config.projection else source_dim
        self.query_norm = _norm(config, dim)
        self.source_norm = _norm(config, read_dim)
        self.attn = _cross_attention(config, dim, read_dim)
        self.attn_scale = nn.Parameter(torch.zeros(dim))
        self.feed_forward = None if config.ffn_ratio is None else _FeedForwardPath(config, dim, config.ffn_ratio)

    def forward(self, query: Tensor, source: Tensor, centres: CellCentres) -> Tensor:
        """Update the query branch's map (B, H, W, dim) from the source branch's map (B, h, w, source_dim)."""
        source = self.source_norm(self.source_proj(source))
        query = query + self.attn_scale * self.attn(self.query_norm(query), source, centres)
        return query if self.feed_forward is None else query + self.feed_forward(query)


class _FeedForwardPath(nn.Module):
    def __init__(self, config: InteractionConfig, dim: int, ratio: float) -> None:
        super().__init__()
        self.norm = _norm(config, dim)
        self.ffn = ConvFeedForward(dim, int(dim * ratio))
        self.scale = nn.Parameter(torch.zeros(dim))
        self.drop_path = DropPath(config.drop_path) if config.drop_path else nn.Identity()

    def forward(self, query: Tensor) -> Tensor:
        return self.drop_path(self.scale * self.ffn(self.norm(query)))


class Interaction(nn.Module):
    """The edges that run after one stage, in their order.

    Args:
        config: the settings of all edges.
        stage: counted from 0.
        channels: width of each branch after this stage.
    """

    def __init__(self, config: InteractionConfig, stage: int, channels: Sequence[int]) -> None:
        super().__init__()
        edges = config.edges_after(stage, len(channels))
        self.units = interaction_units(edges)
        self.injectors = nn.ModuleDict(
            {edge_name(edge): Injector(config, channels[edge[0] - 1], channels[edge[1] - 1]) for edge in edges}
        )

    def forward(self, tokens: Sequence[Tokens], centres: CellCentres) -> tuple[Tokens, ...]:
        """Update the maps of the branches; class tokens pass unchanged."""
        maps = [branch.map for branch in tokens]
        for unit in self.units:
            before = tuple(maps)
            for edge in unit:
                query, source = edge
                maps[query - 1] = self.injectors[edge_name(edge)](before[query - 1], before[source - 1], centres)
        return tuple(branch._replace(map=updated) for branch, updated in zip(tokens, maps, strict=True))


def interaction_units(edges: Sequence[Edge]) -> tuple[tuple[Edge, ...], ...]:
    """Group edges in a row that join the same two branches; those of a unit read the features from before it."""
    return tuple(tuple(unit) for _, unit in groupby(edges, key=frozenset))


def edge_name(edge: Edge) -> str:
    """The name of the module of an edge (query, source): `2to1` when branch 1 reads branch 2."""
    query, source = edge
    return f"{source}to{query}"


def _norm(config: InteractionConfig, dim: int) -> nn.Module:
    return nn.LayerNorm(dim, eps=1e-6) if config.norm else nn.Identity()


def _cross_attention(
    config: InteractionConfig, dim: int, source_dim: int
) -> DeformableCrossAttention | RegularCrossAttention:
    if config.attention == "regular":
        return RegularCrossAttention(dim, source_dim, num_heads=config.num_heads)
    return DeformableCrossAttention(
        dim, source_dim, num_heads=config.num_heads, num_points=config.num_points, value_ratio=config.value_ratio
    )
