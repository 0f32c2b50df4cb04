"""Branch merging: several token maps become one (paper, section 3.4, equations 3 and 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piip.branches import Tokens
from piip.branches.base import same_grid
from piip.branches.layers import Linear
from piip.config import check_fields

GROUPS = 32


@dataclass(frozen=True, kw_only=True)
class LinearMergingConfig:
    """Merging by a linear layer for each branch, as the official classification models with one head do it.

    Attributes:
        branches: the branches to merge, counted from 1; None for all. The first of them gives its width.
    """

    branches: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse values of other types."""
        check_fields(self, "merging.")

    def build(self, channels: Sequence[int]) -> "LinearMerging":
        """The merging of branches of these widths (of all branches, from branch 1 on).

        Raises:
            ValueError: for a branch that is not there, or a width that the normalisation groups do not divide.
        """
        chosen = select_branches(self.branches, len(channels), "merging.branches")
        for branch in chosen:
            if channels[branch - 1] % GROUPS:
                raise ValueError(
                    f"merging: the width {channels[branch - 1]} of branch {branch} is no multiple of {GROUPS}"
                )
        return LinearMerging(chosen, channels)


class LinearMerging(nn.Module):
    """Normalises the chosen branches, projects them to the first one's width, resizes and adds them, weighted."""

    def __init__(self, branches: tuple[int, ...], channels: Sequence[int]) -> None:
        super().__init__()
        self.branches = branches
        self.channels = channels[branches[0] - 1]
        self.projections = nn.ModuleDict(
            {str(b): _Projection(channels[b - 1], None if b == branches[0] else self.channels) for b in branches}
        )

    def forward(self, tokens: Sequence[Tokens], height: int, width: int) -> Tensor:
        """Merge the branches' maps into one (B, height, width, C)."""
        projected = [self.projections[str(b)](tokens[b - 1].map, height, width) for b in self.branches]
        return reduce(torch.add, projected).permute(0, 2, 3, 1)


class _Projection(nn.Module):
    """One branch's way into the sum; `dim` None keeps its width."""

    def __init__(self, source_dim: int, dim: int | None) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, source_dim)
        self.proj = None if dim is None else Linear(source_dim, dim)
        self.proj_norm = None if dim is None else nn.GroupNorm(GROUPS, dim)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Map (B, h, w, source_dim) to (B, dim, height, width), scaled by the branch's weight."""
        x = self.norm(tokens.permute(0, 3, 1, 2))
        if self.proj is not None and self.proj_norm is not None:
            x = self.proj_norm(self.proj(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return self.weight * resize_map(x, height, width)


@dataclass(frozen=True, kw_only=True)
class ConvMergingConfig:
    """Merging by convolutions for each branch, as the official detectors and segmentors do it.

    Attributes:
        branches: the branches to merge, counted from 1; None for all. The first of them gives its width.
        form: `deep` for two convolutions, each with GroupNorm and ReLU, on every branch; `light` for one of them, and
            on the first branch only the GroupNorm and ReLU. The official models are light where they take maps after
            several interactions.
    """

    branches: tuple[int, ...] | None = None
    form: Literal["deep", "light"] = "deep"

    def __post_init__(self) -> None:
        """Refuse values of other types."""
        check_fields(self, "merging.")

    def width(self, channels: Sequence[int]) -> int:
        """The width of the merged map of branches of these widths.

        Raises:
            ValueError: for a branch that is not there, or a width that the normalisation groups do not divide.
        """
        first = select_branches(self.branches, len(channels), "merging.branches")[0]
        if channels[first - 1] % GROUPS:
            raise ValueError(f"merging: the width {channels[first - 1]} of branch {first} is no multiple of {GROUPS}")
        return channels[first - 1]

    def build(self, channels: Sequence[int]) -> "ConvMerging":
        """The merging of branches of these widths (of all branches, from branch 1 on).

        Raises:
            ValueError: as `width`.
        """
        return ConvMerging(self, channels)


class ConvMerging(nn.Module):
    """Convolves the chosen branches on their own grids, resizes and adds them, weighted."""

    def __init__(self, config: ConvMergingConfig, channels: Sequence[int]) -> None:
        super().__init__()
        self.branches = select_branches(config.branches, len(channels), "merging.branches")
        self.channels = config.width(channels)
        self.projections = nn.ModuleDict()
        for branch in self.branches:
            convolutions = 2 if config.form == "deep" else int(branch != self.branches[0])
            self.projections[str(branch)] = _ConvProjection(channels[branch - 1], self.channels, convolutions)

    def forward(self, tokens: Sequence[Tokens], height: int, width: int) -> Tensor:
        """Merge the branches' maps into one (B, C, height, width)."""
        projected = [self.projections[str(b)](tokens[b - 1].map, height, width) for b in self.branches]
        return reduce(torch.add, projected)


class _ConvProjection(nn.Module):
    """One branch's way into the sum."""

    def __init__(self, source_dim: int, dim: int, convolutions: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(max(convolutions, 1)):
            if convolutions:
                layers.append(nn.Conv2d(dim if number else source_dim, dim, 3, padding=1, bias=False))
            layers += [nn.GroupNorm(GROUPS, dim), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Map (B, h, w, source_dim) to (B, dim, height, width), scaled by the branch's weight."""
        return self.weight * resize_map(self.layers(tokens.permute(0, 3, 1, 2)), height, width)


def resize_map(x: Tensor, height: int, width: int) -> Tensor:
    """Resize a map (B, C, h, w) bilinearly, if it is of another size."""
    if same_grid(x.shape[-2:], (height, width)):
        return x
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=False)


def select_branches(chosen: tuple[int, ...] | None, num_branches: int, field: str) -> tuple[int, ...]:
    """The chosen branches, or all of them for None.

    Raises:
        ValueError: naming `field`, for an empty choice, a branch that is not there or one that stands twice.
    """
    if chosen is None:
        return tuple(range(1, num_branches + 1))
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(1, num_branches + 1)):
        raise ValueError(
            f"{field}: {chosen} does not name different ones of the {num_branches} branches, counted from 1"
        )
    return chosen
