"""The plain vision transformer: DeiT, DeiT III, AugReg, MAE, DINOv2 and InternViT-6B are settings of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from timm.layers.activations import GELUTanh
from torch import Tensor, nn

from piip.branches.base import Tokens
from piip.branches.layers import Attention, WindowPadding
from piip.branches.positions import PositionGrid
from piip.branches.transformer import TransformerBranch, TransformerConfig, make_blocks


@dataclass(frozen=True, kw_only=True)
class ViTConfig(TransformerConfig):
    """A vision transformer as a branch of a pyramid, beside `TransformerConfig`.

    Attributes:
        qkv_bias: whether query, key and value projections have a bias.
        qk_norm: normalise queries and keys over the full width, before splitting heads (InternViT-6B).
        norm: the kind of every norm; eps is 1e-6.
        gelu: the exact GELU or its tanh approximation (the official `fused_mlp`).
        window_padding: where maps that are no multiple of the window are padded with zeros: the tokens before the
            qkv projection (the released models), or its output.
        class_token: whether a class token takes part in the attention; needs global attention.
        class_pos_embed: whether the position embedding has a row for the class token, and whether it is added.
            Inside a pyramid the official code never adds it.
        pos_embed_size: image size whose patch grid the position embedding is stored for; None for `image_size`.
            It is resampled (bicubic) for every other grid.
    """

    qkv_bias: bool = True
    qk_norm: bool = False
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    gelu: Literal["exact", "tanh"] = "exact"
    window_padding: WindowPadding = "tokens"
    class_token: bool = True
    class_pos_embed: Literal["none", "unused", "added"] = "none"
    pos_embed_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            ValueError: naming the fields and their values.
        """
        super().__post_init__()
        self.check_patches("pos_embed_size")
        if self.class_pos_embed == "added" and not self.class_token:
            raise ValueError("class_pos_embed: 'added' needs a class token, but class_token is False")
        if self.class_token and any(self.windows):
            raise ValueError(
                "window_size: a class token belongs to no window; set class_token=False or window_size=None"
            )

    @property
    def pos_embed_grid(self) -> int:
        """Side of the square patch grid that the position embedding is stored for."""
        return (self.image_size if self.pos_embed_size is None else self.pos_embed_size) // self.patch_size

    def make_norm(self, dim: int) -> nn.Module:
        """A norm of this model's kind."""
        return nn.LayerNorm(dim, eps=1e-6) if self.norm == "layernorm" else nn.RMSNorm(dim, eps=1e-6)

    def build(self) -> "ViT":
        """The network, with freshly initialised weights."""
        return ViT(self)


class ViT(TransformerBranch):
    """A vision transformer without head, in stages."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.config = config
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.embed_dim)) if config.class_token else None
        self.positions = PositionGrid(config.pos_embed_grid, prefix=int(config.class_pos_embed != "none"))
        rows = self.positions.prefix + config.pos_embed_grid**2
        self.pos_embed = nn.Parameter(torch.empty(1, rows, config.embed_dim))
        self.blocks = make_blocks(config, _make_attentions(config), nn.GELU if config.gelu == "exact" else GELUTanh)
        nn.init.normal_(self.pos_embed, std=0.02)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=0.02)

    def embed(self, images: Tensor) -> Tokens:
        """Cut images (B, C, H, W) into patches; pixels beyond the last whole patch are left out.

        Raises:
            ValueError: for images smaller than a patch.
        """
        patches = self._patches(images)
        patches = patches + self.positions(self.pos_embed, patches.shape[1], patches.shape[2])
        if self.cls_token is None:
            return Tokens(patches)
        class_token: Tensor = self.cls_token
        if self.config.class_pos_embed == "added":
            class_token = class_token + self.pos_embed[:, :1]
        return Tokens(patches, class_token.expand(images.shape[0], -1, -1))

    def run_stage(self, index: int, tokens: Tokens) -> Tokens:
        """Run the blocks of stage `index` on the tokens."""
        if tokens.class_token is None:
            return super().run_stage(index, tokens)
        sequence = torch.cat([tokens.class_token, tokens.map.flatten(1, 2)], dim=1)
        sequence = self._run(index, sequence)
        return Tokens(sequence[:, 1:].unflatten(1, tokens.map.shape[1:3]), sequence[:, :1])


def _make_attentions(config: ViTConfig) -> Iterator[Attention]:
    for window in config.windows:
        yield Attention(
            config.embed_dim,
            config.num_heads,
            qkv_bias=config.qkv_bias,
            qk_norm=config.make_norm if config.qk_norm else None,
            window_size=window,
            window_padding=config.window_padding,
        )
