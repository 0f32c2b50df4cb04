"""Classification heads: one for each branch with averaged logits, or one on the merged branches."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from piip.branches import BranchConfig, Tokens
from piip.branches.layers import Linear
from piip.config import check_fields
from piip.pyramid import LinearMergingConfig, PyramidConfig
from piip.pyramid.merging import select_branches

Reads = Literal["first_patch", "class_token", "mean"]


@dataclass(frozen=True, kw_only=True)
class SeparateHeadsConfig:
    """A norm and a linear classifier for each branch, whose logits are averaged (paper, section 3.4).

    Attributes:
        num_classes: number of classes; 0 for no classifier: the model then returns the map of the one branch.
        reads: what a classifier reads of its branch, after the norm: the first patch (top left; what the released
            classification weights were trained with), the class token, or the mean over the patches.
        branches: the branches that have a head, counted from 1; None for all.
    """

    num_classes: int = 1000
    reads: Reads = "mean"
    branches: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse a part of the branch that a classifier cannot read."""
        check_fields(self, "head.")

    def build(self, pyramid: PyramidConfig) -> "SeparateHeads | BranchFeatures":
        """The heads for the branches of this pyramid.

        Raises:
            ValueError: for a branch that is not there or has no class token to read, or no class where there are
                several branches.
        """
        _check_num_classes(self.num_classes)
        chosen = select_branches(self.branches, len(pyramid.branches), "head.branches")
        if not self.num_classes and len(chosen) > 1:
            raise ValueError(
                f"head.num_classes: 0 gives the features of one branch, but here are {len(chosen)}; name one in "
                f"head.branches, or merge them with a MergedHeadConfig"
            )
        without = [branch for branch in chosen if not pyramid.branches[branch - 1].class_token]
        if self.reads == "class_token" and without:
            raise ValueError(f"head.reads: 'class_token', but branch {without[0]} has none; set its class_token=True")
        return SeparateHeads(self, pyramid, chosen) if self.num_classes else BranchFeatures(chosen[0])


class SeparateHeads(nn.Module):
    """Averages the logits of the branches' own heads."""

    def __init__(self, config: SeparateHeadsConfig, pyramid: PyramidConfig, branches: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(
            {str(b): BranchHead(pyramid.branches[b - 1], config.num_classes, config.reads) for b in branches}
        )

    def forward(self, tokens: Sequence[Tokens]) -> Tensor:
        """Compute the logits (B, num_classes) from the tokens of all branches."""
        logits = [head(tokens[int(branch) - 1]) for branch, head in self.branches.items()]
        return torch.stack(logits).mean(0)


class BranchHead(nn.Module):
    """A norm and a linear classifier on one branch."""

    def __init__(self, branch: BranchConfig, num_classes: int, reads: Reads) -> None:
        super().__init__()
        self.reads = reads
        self.norm = branch.make_final_norm()
        self.linear = Linear(branch.channels[-1], num_classes)

    def forward(self, tokens: Tokens) -> Tensor:
        """Compute the logits (B, num_classes)."""
        if self.reads == "mean":
            return self.linear(self.norm(tokens.map).mean((1, 2)))
        read = (
            tokens.map[:, 0, 0]
            if tokens.class_token is None or self.reads == "first_patch"
            else tokens.class_token[:, 0]
        )
        return self.linear(self.norm(read))


class BranchFeatures(nn.Module):
    """Passes one branch on, without a classifier."""

    def __init__(self, branch: int) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, tokens: Sequence[Tokens]) -> Tensor:
        """Return the map (B, H, W, C) of the branch."""
        return tokens[self.branch - 1].map


@dataclass(frozen=True, kw_only=True)
class MergedHeadConfig:
    """One norm and linear classifier on the mean of the merged branches.

    Attributes:
        num_classes: number of classes; 0 for no classifier: the model then returns the merged map.
        merging: how the branches become one map.
    """

    num_classes: int = 1000
    merging: LinearMergingConfig = field(default_factory=LinearMergingConfig)

    def __post_init__(self) -> None:
        """Refuse values of other types."""
        check_fields(self, "head.")

    def build(self, pyramid: PyramidConfig) -> "MergedHead | MergedFeatures":
        """The head for the branches of this pyramid.

        Raises:
            ValueError: when the branches cannot be merged.
        """
        _check_num_classes(self.num_classes)
        return MergedHead(self, pyramid) if self.num_classes else MergedFeatures(self, pyramid)


class MergedFeatures(nn.Module):
    """Merges the branches on the grid of the one that sees the image itself, without a classifier."""

    def __init__(self, config: MergedHeadConfig, pyramid: PyramidConfig) -> None:
        super().__init__()
        self.merging = config.merging.build(pyramid.channels)
        self._finest = pyramid.finest - 1

    def forward(self, tokens: Sequence[Tokens]) -> Tensor:
        """Compute the merged map (B, H, W, C)."""
        height, width = tokens[self._finest].map.shape[1:3]
        return self.merging(tokens, height, width)


class MergedHead(MergedFeatures):
    """Merges the branches and classifies the mean of the normalised map."""

    def __init__(self, config: MergedHeadConfig, pyramid: PyramidConfig) -> None:
        super().__init__(config, pyramid)
        self.norm = nn.LayerNorm(self.merging.channels, eps=1e-6)
        self.linear = Linear(self.merging.channels, config.num_classes)

    def forward(self, tokens: Sequence[Tokens]) -> Tensor:
        """Compute the logits (B, num_classes)."""
        return self.linear(self.norm(super().forward(tokens)).mean((1, 2)))


def _check_num_classes(num_classes: int) -> None:
    if num_classes < 0:
        raise ValueError(f"head.num_classes: must not be negative, got {num_classes}")
