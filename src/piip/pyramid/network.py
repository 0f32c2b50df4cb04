"""The network: an image pyramid, a branch for each level, and interactions between them (paper, section 3)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

from torch import Tensor, nn

from piip.branches import AnyBranchConfig, Branch, Tokens
from piip.checks import check_type, shown
from piip.config import check_fields
from piip.pyramid.attention import CellCentres
from piip.pyramid.interaction import Interaction, InteractionConfig
from piip.pyramid.resize import resize_in_proportion


@dataclass(frozen=True, kw_only=True)
class PyramidConfig:
    """A parameter-inverted image pyramid, or any other set of branches that look at one image.

    Attributes:
        branches: from branch 1 on; in an inverted pyramid branch 1 is the largest model on the smallest image. One
            branch makes a plain backbone.
        interaction: how branches exchange features after each stage.
        input_branch: the branch, counted from 1, that sees the image as it is given; the others see it reduced, or
            enlarged. None for the one with the largest image, so that none is enlarged.
    """

    branches: tuple[AnyBranchConfig, ...]
    interaction: InteractionConfig = field(default_factory=InteractionConfig)
    input_branch: int | None = None

    def __post_init__(self) -> None:
        """Refuse branches that do not fit together.

        Raises:
            ValueError: naming the fields and their values.
        """
        check_fields(self)
        if not self.branches:
            raise ValueError("branches: a pyramid needs at least one branch")
        stages = [len(branch.channels) for branch in self.branches]
        if len(set(stages)) > 1:
            raise ValueError(
                f"stages: branches interact after each stage, but their numbers of stages differ: {stages}"
            )
        in_channels = [branch.in_channels for branch in self.branches]
        if len(set(in_channels)) > 1:
            raise ValueError(f"in_channels: the branches look at one image, but their values differ: {in_channels}")
        if self.input_branch is not None and not 1 <= self.input_branch <= len(self.branches):
            raise ValueError(
                f"input_branch: {self.input_branch} is none of the {len(self.branches)} branches, counted from 1"
            )
        edges, turns = self.interaction.edges_between(len(self.branches)), self.interaction.turns
        if never := [edge for number, edge in enumerate(edges) if number % turns >= self.num_stages]:
            raise ValueError(
                f"interaction.turns: with {turns} turns in {self.num_stages} stages the edges {never} never run"
            )
        for query, _ in edges:
            for channels in sorted(set(self.branches[query - 1].channels)):
                self.interaction.check_width(query, channels)

    @property
    def image_size(self) -> int:
        """Side of the square image that the pyramid is made for: that of its input branch, in pixels."""
        return self.branches[(self.input_branch or self.finest) - 1].image_size

    @property
    def channels(self) -> tuple[int, ...]:
        """Width of each branch after its last stage."""
        return self.channels_after(-1)

    @property
    def num_stages(self) -> int:
        """Stages of each branch, and interactions between them."""
        return len(self.branches[0].channels)

    @property
    def finest(self) -> int:
        """The branch, counted from 1, with the largest image; the last one, where several have it."""
        return max(range(len(self.branches)), key=lambda index: (self.branches[index].image_size, index)) + 1

    def channels_after(self, stage: int) -> tuple[int, ...]:
        """Width of each branch after a stage, counted from 0."""
        return tuple(branch.channels[stage] for branch in self.branches)

    def build(self) -> "Pyramid":
        """The network, with freshly initialised weights."""
        return Pyramid(self)


class Pyramid(nn.Module):
    """Branches that look at one image at their own sizes and read each other's features after each stage.

    The input is the image for the branch with the largest image size, unless the configuration names another one; the
    others see it resized in proportion. Images need not be square, nor of the size in the configuration.
    """

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__()
        check_type("config", config, PyramidConfig, "a PyramidConfig")
        self.config = config
        self.branches = nn.ModuleList(branch.build() for branch in config.branches)
        self.interactions = nn.ModuleList(
            Interaction(config.interaction, stage, config.channels_after(stage)) for stage in range(config.num_stages)
        )
        self.ratios = tuple(Fraction(branch.image_size, config.image_size) for branch in config.branches)

    def forward(self, images: Tensor) -> tuple[Tokens, ...]:
        """Compute each branch's tokens after the last interaction.

        Args:
            images: (B, 3, H, W), normalised as the branches were pretrained.

        Raises:
            ValueError: for what is no batch of images, and when a branch's image would be smaller than its patches.
        """
        tokens, centres = self._embed(images), CellCentres()
        for stage in range(len(self.interactions)):
            tokens = self._advance(stage, tokens, centres)
        return tokens

    def forward_intermediates(
        self, images: Tensor, stages: Collection[int] | None = None
    ) -> dict[int, tuple[Tokens, ...]]:
        """Compute each branch's tokens after several interactions.

        Args:
            images: as for `forward`.
            stages: after which interactions, counted from 0; None for all. What comes after the last one is not run.

        Returns:
            The tokens after each of these interactions, in the order in which they run.
        """
        wanted = range(len(self.interactions)) if stages is None else stages
        tokens, centres = self._embed(images), CellCentres()
        intermediates = {}
        for stage in range(max(wanted) + 1):
            tokens = self._advance(stage, tokens, centres)
            if stage in wanted:
                intermediates[stage] = tokens
        return intermediates

    def _embed(self, images: Tensor) -> tuple[Tokens, ...]:
        channels = self.config.branches[0].in_channels
        check_type("images", images, Tensor, f"a batch (B, {channels}, H, W)")
        if images.dim() != 4 or images.shape[1] != channels or not images.is_floating_point():
            raise ValueError(
                f"images: expected a batch (B, {channels}, H, W) of floating-point numbers, got {shown(images)}"
            )
        branches = cast("Sequence[Branch]", self.branches)
        return tuple(
            branch.embed(resize_in_proportion(images, ratio))
            for branch, ratio in zip(branches, self.ratios, strict=True)
        )

    def _advance(self, stage: int, tokens: tuple[Tokens, ...], centres: CellCentres) -> tuple[Tokens, ...]:
        branches = cast("Sequence[Branch]", self.branches)
        tokens = tuple(branch.run_stage(stage, own) for branch, own in zip(branches, tokens, strict=True))
        return self.interactions[stage](tokens, centres)
