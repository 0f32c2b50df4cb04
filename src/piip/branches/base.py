"""What the pyramid asks of a branch, whatever its architecture."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true

from piip.checks import check_count


class Tokens(NamedTuple):
    """The features of one branch: a token map, and a class token beside it where the branch has one."""

    map: Tensor  # (B, H, W, C)
    class_token: Tensor | None = None  # (B, 1, C)


class BranchConfig(Protocol):
    """What the pyramid asks of a branch's configuration, whatever the architecture."""

    @property
    def image_size(self) -> int:
        """Side of the square image that the branch is made for, in pixels."""

    @property
    def in_channels(self) -> int:
        """Channels of the image."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Width of the token map after each stage."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the branch's own image for each cell of the token map, after each stage."""

    @property
    def class_token(self) -> bool:
        """Whether the branch has a class token."""

    def make_final_norm(self) -> nn.Module:
        """A new norm of the kind that this architecture puts between its last block and its head."""

    def build(self) -> "Branch":
        """The branch, with freshly initialised weights."""


class Branch(nn.Module, ABC):
    """An embedding followed by stages of blocks; the pyramid lets branches interact after each stage."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """Number of layers, for learning rates that differ with the layer; 0 where they do not."""

    @abstractmethod
    def layer_of(self, parameter: str) -> int:
        """Which layer a parameter of this branch belongs to, by its name: 1 to `depth`, or 0 for the embedding."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tokens:
        """Turn images (B, 3, H, W) into the tokens that the first stage reads."""

    @abstractmethod
    def run_stage(self, index: int, tokens: Tokens) -> Tokens:
        """Run the blocks of one stage (numbered from 0)."""


def same_grid(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether two grids (height, width) are known to be the same.

    In a graph of dynamic sizes that may not be known, and the graph must serve for both: then False.
    """
    return all(statically_known_true(side == other) for side, other in zip(first, second, strict=True))


def even_stages(depth: int, num_stages: int) -> tuple[int, ...]:
    """Split `depth` blocks into stages as evenly as possible, the longer stages last.

    This is the paper's split (section 4.1): 24 blocks in 12 stages are two each, and the 32 of ViT-H
    are 2, 2, 2, 2, then eight stages of 3.

    Raises:
        ValueError: when there are more stages than blocks, or no stage.
    """
    depth, num_stages = check_count("depth", depth), check_count("num_stages", num_stages)
    if num_stages > depth:
        raise ValueError(f"num_stages: {depth} blocks cannot be split into {num_stages} stages of at least one block")
    short, longer = divmod(depth, num_stages)
    return (short,) * (num_stages - longer) + (short + 1,) * longer
