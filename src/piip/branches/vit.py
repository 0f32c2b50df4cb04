"""The plain vision transformer: DeiT, DeiT III, AugReg, MAE, DINOv2 and InternViT-6B are settings of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.layers.activations import GELUTanh
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from piip.branches.base import Branch, Tokens
from piip.branches.layers import Attention, Block, Norm, WindowPadding
from piip.config import check_fields


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """A vision transformer as a branch of a pyramid.

    Attributes:
        image_size: side of the square image that the branch sees, in pixels. Images of other sizes and shapes
            work: branches are resized in proportion to their image sizes.
        depth: number of blocks.
        embed_dim: width of the tokens.
        num_heads: attention heads.
        stages: blocks in each stage, first to last; a stage may be empty. See `even_stages`.
        unused_blocks: blocks at the end that have weights but are never run (some official configurations have
            them); `sum(stages) + unused_blocks` is `depth`.
        patch_size: side of a patch, in pixels.
        in_channels: channels of the image.
        mlp_ratio: hidden width of the MLPs over `embed_dim`.
        qkv_bias: whether query, key and value projections have a bias.
        qk_norm: normalise queries and keys over the full width, before splitting heads (InternViT-6B).
        norm: the kind of every norm; eps is 1e-6.
        gelu: the exact GELU or its tanh approximation (the official `fused_mlp`).
        layer_scale: initial value of the layer scales; None for a ViT without them.
        window_size: side of the attention windows in tokens, None for global attention: one value for all
            blocks, or one for each.
        window_padding: where maps that are no multiple of the window are padded with zeros: the tokens before the
            qkv projection (the released models), or its output.
        class_token: whether a class token takes part in the attention; needs global attention.
        class_pos_embed: whether the position embedding has a row for the class token, and whether it is added.
            Inside a pyramid the official code never adds it.
        pos_embed_size: image size whose patch grid the position embedding is stored for; None for `image_size`.
            It is resampled (bicubic) for every other grid.
        drop_path: probability of skipping a residual path in training.
        drop_path_rule: the same probability in each block, or rising linearly from 0 to `drop_path`.
        activation_checkpointing: recompute blocks in the backward pass instead of storing their activations.
    """

    image_size: int
    depth: int
    embed_dim: int
    num_heads: int
    stages: tuple[int, ...]
    unused_blocks: int = 0
    patch_size: int = 16
    in_channels: int = 3
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    qk_norm: bool = False
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    gelu: Literal["exact", "tanh"] = "exact"
    layer_scale: float | None = None
    window_size: int | tuple[int | None, ...] | None = None
    window_padding: WindowPadding = "tokens"
    class_token: bool = True
    class_pos_embed: Literal["none", "unused", "added"] = "none"
    pos_embed_size: int | None = None
    drop_path: float = 0.0
    drop_path_rule: Literal["constant", "linear"] = "constant"
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            ValueError: naming the fields and their values.
        """
        check_fields(self)
        for name in ("image_size", "depth", "embed_dim", "num_heads", "patch_size", "in_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")
        if self.embed_dim % self.num_heads:
            raise ValueError(f"num_heads: {self.num_heads} does not divide embed_dim {self.embed_dim}")
        if not 1 <= self.embed_dim * self.mlp_ratio < math.inf:
            raise ValueError(
                f"mlp_ratio: {self.mlp_ratio} of embed_dim {self.embed_dim} is less than one channel, or not finite"
            )
        if not self.stages or min(self.stages) < 0 or self.unused_blocks < 0:
            raise ValueError(
                f"stages: need at least one stage, and no negative number of blocks; got stages {self.stages}, "
                f"unused_blocks {self.unused_blocks}"
            )
        if sum(self.stages) + self.unused_blocks != self.depth:
            raise ValueError(
                f"stages: {self.stages} and unused_blocks {self.unused_blocks} cover "
                f"{sum(self.stages) + self.unused_blocks} blocks, but depth is {self.depth}"
            )
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path: must be in [0, 1), got {self.drop_path}")
        self._check_grid()
        self._check_windows()

    def _check_grid(self) -> None:
        for name in ("image_size", "pos_embed_size"):
            size = getattr(self, name)
            if size is not None and size < self.patch_size:
                raise ValueError(f"{name}: {size} pixels are less than one patch (patch_size {self.patch_size})")
        if self.class_pos_embed == "added" and not self.class_token:
            raise ValueError("class_pos_embed: 'added' needs a class token, but class_token is False")

    def _check_windows(self) -> None:
        if isinstance(self.window_size, tuple) and len(self.window_size) != self.depth:
            raise ValueError(
                f"window_size: {len(self.window_size)} values for depth {self.depth}; give one for each block"
            )
        windows = [size for size in self.windows if size is not None]
        if windows and min(windows) < 1:
            raise ValueError(f"window_size: must be at least 1, or None for global attention; got {min(windows)}")
        if windows and self.class_token:
            raise ValueError(
                "window_size: a class token belongs to no window; set class_token=False or window_size=None"
            )

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

    @property
    def pos_embed_grid(self) -> int:
        """Side of the square patch grid that the position embedding is stored for."""
        return (self.image_size if self.pos_embed_size is None else self.pos_embed_size) // self.patch_size

    def make_norm(self, dim: int) -> nn.Module:
        """A norm of this model's kind."""
        return nn.LayerNorm(dim, eps=1e-6) if self.norm == "layernorm" else nn.RMSNorm(dim, eps=1e-6)

    def make_final_norm(self) -> nn.Module:
        """A norm for a head on this branch."""
        return self.make_norm(self.embed_dim)

    def build(self) -> "ViT":
        """The network, with freshly initialised weights."""
        return ViT(self)


class ViT(Branch):
    """A vision transformer without head, in stages."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(
            img_size=None,
            patch_size=config.patch_size,
            in_chans=config.in_channels,
            embed_dim=config.embed_dim,
            output_fmt="NHWC",
            strict_img_size=False,
        )
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.embed_dim)) if config.class_token else None
        self._pos_embed_prefix = int(config.class_pos_embed != "none")
        positions = self._pos_embed_prefix + config.pos_embed_grid**2
        self.pos_embed = nn.Parameter(torch.empty(1, positions, config.embed_dim))
        self.blocks = nn.ModuleList(_make_blocks(config))
        self._stage_ends = tuple(sum(config.stages[: stage + 1]) for stage in range(len(config.stages)))
        self._grid_cache = _GridCache()
        nn.init.normal_(self.pos_embed, std=0.02)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=0.02)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return self.config.depth

    def layer_of(self, parameter: str) -> int:
        """Which block a parameter belongs to, counted from 1; 0 for the patch and position embedding."""
        part, _, rest = parameter.partition(".")
        return int(rest.split(".")[0]) + 1 if part == "blocks" else 0

    def embed(self, images: Tensor) -> Tokens:
        """Cut images (B, C, H, W) into patches; pixels beyond the last whole patch are left out.

        Raises:
            ValueError: for images smaller than a patch.
        """
        if min(images.shape[-2:]) < self.config.patch_size:
            raise ValueError(
                f"images: a branch with patch_size {self.config.patch_size} would see {tuple(images.shape[-2:])} "
                f"pixels; give the pyramid a larger image"
            )
        patches = self.patch_embed(images)
        patches = patches + self._positions(patches.shape[1], patches.shape[2])
        if self.cls_token is None:
            return Tokens(patches)
        class_token: Tensor = self.cls_token
        if self.config.class_pos_embed == "added":
            class_token = class_token + self.pos_embed[:, :1]
        return Tokens(patches, class_token.expand(images.shape[0], -1, -1))

    def run_stage(self, index: int, tokens: Tokens) -> Tokens:
        """Run the blocks of stage `index` on the tokens."""
        first = self._stage_ends[index - 1] if index else 0
        blocks = self.blocks[first : self._stage_ends[index]]
        if tokens.class_token is None:
            return Tokens(self._run(blocks, tokens.map))
        sequence = torch.cat([tokens.class_token, tokens.map.flatten(1, 2)], dim=1)
        sequence = self._run(blocks, sequence)
        return Tokens(sequence[:, 1:].unflatten(1, tokens.map.shape[1:3]), sequence[:, :1])

    def _run(self, blocks: nn.ModuleList, x: Tensor) -> Tensor:
        recompute = self.config.activation_checkpointing and self.training and torch.is_grad_enabled()
        for block in blocks:
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        return x

    def _positions(self, height: int, width: int) -> Tensor:
        side = self.config.pos_embed_grid
        grid = self.pos_embed[:, self._pos_embed_prefix :].unflatten(1, (side, side))
        if (height, width) == (side, side):
            return grid
        if torch.compiler.is_compiling():
            return resample_grid(grid, height, width)
        if torch.is_grad_enabled():
            self._grid_cache.close()
            return resample_grid(grid, height, width)
        return self._grid_cache.get(self.pos_embed, (height, width), lambda: resample_grid(grid, height, width))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._grid_cache.open()  # empty, as `fn` moves or casts the parameters in place
        return nn.Module._apply(self, fn, recurse)

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode."""
        self._grid_cache.open()
        return super().train(mode)


def resample_grid(grid: Tensor, height: int, width: int) -> Tensor:
    """Resample a position grid (1, h, w, C) to (1, height, width, C): bicubic, no antialiasing."""
    channels_first = grid.permute(0, 3, 1, 2).to(torch.promote_types(grid.dtype, torch.float32))
    resampled = F.interpolate(channels_first, (height, width), mode="bicubic", align_corners=False)
    return resampled.permute(0, 2, 3, 1).to(grid.dtype)


class _GridCache:
    """The last resampled position grid, for inference: kept until the parameter it was made of changes.

    A forward pass with gradients closes it until the training mode is set the next time: a step of an optimizer may
    follow at any time, and the fused ones do not count as a change of the parameter.
    """

    def __init__(self) -> None:
        self.open()

    def open(self) -> None:
        self._entry: tuple[Tensor, tuple[int, ...], Tensor] | None = None  # one object, as threads may share a model
        self._closed = False

    def close(self) -> None:
        self._entry = None
        self._closed = True

    def get(self, source: Tensor, size: tuple[int, int], make: Callable[[], Tensor]) -> Tensor:
        # Tensors made in inference mode do not count their changes; those that a transform or a functional call put
        # in the parameter's place are gone after it; and gradients are there to be stepped along.
        if self._closed or type(source) is not nn.Parameter or source.is_inference() or source.grad is not None:
            return make()
        key = (source.data_ptr(), source._version, *size)
        entry = self._entry
        if entry is not None and entry[0] is source and entry[1] == key:
            return entry[2]
        grid = make()
        if type(grid) is Tensor:  # not a fake one, that a tracer makes of the real parameter
            self._entry = (source, key, grid)
        return grid


def _make_blocks(config: ViTConfig) -> list[Block]:
    norm: Norm = config.make_norm
    activation: type[nn.Module] = nn.GELU if config.gelu == "exact" else GELUTanh
    rates = [config.drop_path] * config.depth
    if config.drop_path_rule == "linear":
        rates = [config.drop_path * block / max(config.depth - 1, 1) for block in range(config.depth)]
    return [
        Block(
            Attention(
                config.embed_dim,
                config.num_heads,
                qkv_bias=config.qkv_bias,
                qk_norm=norm if config.qk_norm else None,
                window_size=window,
                window_padding=config.window_padding,
            ),
            config.embed_dim,
            norm=norm,
            mlp_ratio=config.mlp_ratio,
            activation=activation,
            layer_scale=config.layer_scale,
            drop_path=rate,
        )
        for window, rate in zip(config.windows, rates, strict=True)
    ]
