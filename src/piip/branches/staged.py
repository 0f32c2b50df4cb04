"""What branches of every architecture share: blocks in a row, run stage by stage."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from piip.branches.base import Branch
from piip.config import check_fields


@dataclass(frozen=True, kw_only=True)
class StagedConfig:
    """What every branch is told.

    Attributes:
        image_size: side of the square image that the branch sees, in pixels. Images of other sizes and shapes
            work: branches are resized in proportion to their image sizes.
        stages: blocks in each stage, first to last; a stage may be empty. See `even_stages`.
        unused_blocks: blocks at the end that have weights but are never run (some official configurations have
            them); `sum(stages) + unused_blocks` is the number of blocks.
        in_channels: channels of the image.
        drop_path: probability of skipping a residual path in training.
        activation_checkpointing: recompute blocks in the backward pass instead of storing their activations.
    """

    image_size: int
    stages: tuple[int, ...]
    unused_blocks: int = 0
    in_channels: int = 3
    drop_path: float = 0.0
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            ValueError: naming the fields and their values.
        """
        check_fields(self)
        self.check_positive("image_size", "in_channels")
        if not self.stages or min(self.stages) < 0 or self.unused_blocks < 0:
            raise ValueError(
                f"stages: need at least one stage, and no negative number of blocks; got stages {self.stages}, "
                f"unused_blocks {self.unused_blocks}"
            )
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path: must be in [0, 1), got {self.drop_path}")

    @property
    def stage_ends(self) -> tuple[int, ...]:
        """How many blocks have run after each stage."""
        return tuple(sum(self.stages[: stage + 1]) for stage in range(len(self.stages)))

    def check_positive(self, *names: str) -> None:
        """Refuse fields below 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")

    def check_blocks(self, depth: int) -> None:
        """Refuse stages that do not cover `depth` blocks."""
        if sum(self.stages) + self.unused_blocks != depth:
            raise ValueError(
                f"stages: {self.stages} and unused_blocks {self.unused_blocks} cover "
                f"{sum(self.stages) + self.unused_blocks} blocks, but depth is {depth}"
            )


class StagedBranch(Branch):
    """A branch whose layers are `blocks`, which a subclass sets, after an embedding."""

    blocks: nn.ModuleList

    def __init__(self, config: StagedConfig) -> None:
        super().__init__()
        self._stage_ends = config.stage_ends
        self._activation_checkpointing = config.activation_checkpointing

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def layer_of(self, parameter: str) -> int:
        """Which block a parameter belongs to, counted from 1; 0 for the embedding."""
        part, _, rest = parameter.partition(".")
        return int(rest.split(".")[0]) + 1 if part == "blocks" else 0

    def _run(self, stage: int, x: Tensor) -> Tensor:
        """Run the blocks of one stage."""
        first = self._stage_ends[stage - 1] if stage else 0
        recompute = self._activation_checkpointing and self.training and torch.is_grad_enabled()
        for block in self.blocks[first : self._stage_ends[stage]]:
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        return x


def rising_drop_path(drop_path: float, depth: int) -> Sequence[float]:
    """The rate of each block, rising linearly from 0 to `drop_path`."""
    return [drop_path * block / max(depth - 1, 1) for block in range(depth)]
