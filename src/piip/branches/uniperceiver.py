"""The image encoder of Uni-Perceiver (arXiv 2112.01522)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from piip.branches.base import Tokens
from piip.branches.layers import Attention
from piip.branches.positions import PositionGrid
from piip.branches.transformer import TransformerBranch, TransformerConfig, make_blocks


@dataclass(frozen=True, kw_only=True)
class UniPerceiverConfig(TransformerConfig):
    """A Uni-Perceiver as a branch of a pyramid, beside `TransformerConfig`.

    An image counts as the first frame of a video. Maps that are no multiple of the window are padded with zeros
    before the qkv projection. The eps of every norm is 1e-5.

    Attributes:
        pos_embed_size: image size whose patch grid the position embedding is stored for; None for `image_size`.
            It is resampled (bicubic) for every other grid.
        num_frames: frames that the model has embeddings for.
    """

    pos_embed_size: int | None = None
    num_frames: int = 8

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            ValueError: naming the fields and their values.
        """
        super().__post_init__()
        self.check_positive("num_frames")
        self.check_patches("pos_embed_size")

    @property
    def class_token(self) -> bool:
        """There is none."""
        return False

    @property
    def pos_embed_grid(self) -> int:
        """Side of the square patch grid that the position embedding is stored for."""
        return (self.image_size if self.pos_embed_size is None else self.pos_embed_size) // self.patch_size

    def make_norm(self, dim: int) -> nn.Module:
        """A norm of this model's kind."""
        return nn.LayerNorm(dim, eps=1e-5)

    def build(self) -> "UniPerceiver":
        """The network, with freshly initialised weights."""
        return UniPerceiver(self)


class UniPerceiver(TransformerBranch):
    """A Uni-Perceiver without its text side and heads, in stages."""

    def __init__(self, config: UniPerceiverConfig) -> None:
        super().__init__(config)
        self.config = config
        self.positions = PositionGrid(config.pos_embed_grid)
        self.spatial_pos_embed = nn.Parameter(torch.empty(config.pos_embed_grid**2, config.embed_dim))
        self.temporal_pos_embed = nn.Parameter(torch.empty(config.num_frames, config.embed_dim))
        self.embed_norm = config.make_norm(config.embed_dim)
        attentions = (Attention(config.embed_dim, config.num_heads, window_size=window) for window in config.windows)
        self.blocks = make_blocks(config, attentions)
        nn.init.normal_(self.spatial_pos_embed, std=0.02)
        nn.init.normal_(self.temporal_pos_embed, std=0.02)

    def embed(self, images: Tensor) -> Tokens:
        """Cut images (B, C, H, W) into patches; pixels beyond the last whole patch are left out.

        Raises:
            ValueError: for images smaller than a patch.
        """
        patches = self._patches(images)
        positions = self.positions(self.spatial_pos_embed, patches.shape[1], patches.shape[2])
        return Tokens(self.embed_norm(patches + positions + self.temporal_pos_embed[0]))
