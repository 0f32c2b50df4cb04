"""Branch merging: several token maps become one (paper, section 3.4, equations 3 and 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piip.branches import Tokens
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

    def forward(self, tokens: Sequence[Tokens]) -> Tensor:
        """Merge the branches' maps into one (B, H, W, C) on the largest grid of the pyramid."""
        height, width = max((branch.map.shape[1:3] for branch in tokens), key=lambda grid: grid[0] * grid[1])
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
        if x.shape[-2:] != (height, width):
            x = F.interpolate(x, (height, width), mode="bilinear", align_corners=False)
        return self.weight * x


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
