"""What the transformer branches share: patches, and blocks of attention and MLP on their tokens."""

import math
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from timm.layers import PatchEmbed
from torch import Tensor, nn

from piip.branches.base import Tokens
from piip.branches.layers import Attention, Block
from piip.branches.staged import StagedBranch, StagedConfig, rising_drop_path


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(StagedConfig):
    """What every transformer is told, beside `StagedConfig`.

    Attributes:
        depth: number of blocks.
        embed_dim: width of the tokens.
        num_heads: attention heads.
        patch_size: side of a patch, in pixels.
        mlp_ratio: hidden width of the MLPs over `embed_dim`.
        layer_scale: initial value of the layer scales; None for a model without them.
        window_size: side of the attention windows in tokens, None for global attention: one value for all
            blocks, or one for each.
        drop_path_rule: the same probability in each block, or rising linearly from 0 to `drop_path`.
    """

    depth: int
    embed_dim: int
    num_heads: int
    patch_size: int = 16
    mlp_ratio: float = 4.0
    layer_scale: float | None = None
    window_size: int | tuple[int | None, ...] | None = None
    drop_path_rule: Literal["constant", "linear"] = "constant"

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            ValueError: naming the fields and their values.
        """
        super().__post_init__()
        self.check_positive("depth", "embed_dim", "num_heads", "patch_size")
        self.check_blocks(self.depth)
        self.check_patches("image_size")
        if self.embed_dim % self.num_heads:
            raise ValueError(f"num_heads: {self.num_heads} does not divide embed_dim {self.embed_dim}")
        if not 1 <= self.embed_dim * self.mlp_ratio < math.inf:
            raise ValueError(
                f"mlp_ratio: {self.mlp_ratio} of embed_dim {self.embed_dim} is less than one channel, or not finite"
            )
        if isinstance(self.window_size, tuple) and len(self.window_size) != self.depth:
            raise ValueError(
                f"window_size: {len(self.window_size)} values for depth {self.depth}; give one for each block"
            )
        windows = [size for size in self.windows if size is not None]
        if windows and min(windows) < 1:
            raise ValueError(f"window_size: must be at least 1, or None for global attention; got {min(windows)}")

    @property
    def channels(self) -> tuple[int, ...]:
        """Width of the token map after each stage."""
        return (self.embed_dim,) * len(self.stages)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the branch's image for each cell of the token map, after each stage."""
        return (self.patch_size,) * len(self.stages)

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window size of each block."""
        return self.window_size if isinstance(self.window_size, tuple) else (self.window_size,) * self.depth

    @abstractmethod
    def make_norm(self, dim: int) -> nn.Module:
        """A norm of this model's kind."""

    def make_final_norm(self) -> nn.Module:
        """A norm for a head on this branch."""
        return self.make_norm(self.embed_dim)

    def check_patches(self, name: str) -> None:
        """Refuse an image size of less than one patch."""
        size = getattr(self, name)
        if size is not None and size < self.patch_size:
            raise ValueError(f"{name}: {size} pixels are less than one patch (patch_size {self.patch_size})")


class TransformerBranch(StagedBranch):
    """Patches, and blocks that a subclass makes; by default the tokens are a map and nothing else."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.patch_embed = PatchEmbed(
            img_size=None,
            patch_size=config.patch_size,
            in_chans=config.in_channels,
            embed_dim=config.embed_dim,
            output_fmt="NHWC",
            strict_img_size=False,
        )
        self._patch_size = config.patch_size

    def embed(self, images: Tensor) -> Tokens:
        """Cut images (B, C, H, W) into patches; pixels beyond the last whole patch are left out.

        Raises:
            ValueError: for images smaller than a patch.
        """
        return Tokens(self._patches(images))

    def run_stage(self, index: int, tokens: Tokens) -> Tokens:
        """Run the blocks of stage `index` on the tokens."""
        return Tokens(self._run(index, tokens.map))

    def _patches(self, images: Tensor) -> Tensor:
        if any(side < self._patch_size for side in images.shape[-2:]):
            raise ValueError(
                f"images: a branch with patch_size {self._patch_size} would see {tuple(images.shape[-2:])} pixels; "
                f"give the pyramid a larger image"
            )
        return self.patch_embed(images)


def make_blocks(
    config: TransformerConfig, attentions: Iterable[Attention], activation: type[nn.Module] = nn.GELU
) -> nn.ModuleList:
    """The blocks of a transformer.

    Args:
        config: of the transformer.
        attentions: that of each block.
        activation: makes the activations of the MLPs.
    """
    rates = rising_drop_path(config.drop_path, config.depth)
    return nn.ModuleList(
        Block(
            attention,
            config.embed_dim,
            norm=config.make_norm,
            mlp_ratio=config.mlp_ratio,
            activation=activation,
            layer_scale=config.layer_scale,
            drop_path=rate if config.drop_path_rule == "linear" else config.drop_path,
        )
        for attention, rate in zip(attentions, rates, strict=True)
    )
