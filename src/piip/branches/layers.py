"""The transformer block that the ViT family shares."""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from timm.layers import DropPath, LayerScale
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]
WindowPadding = Literal["tokens", "qkv"]


def split_windows(tokens: Tensor, size: int) -> Tensor:
    """Cut maps (B, H, W, C) into windows (B * windows, size * size, C); H and W are multiples of `size`."""
    batch, height, width, channels = tokens.shape
    windows = tokens.view(batch, height // size, size, width // size, size, channels)
    return windows.transpose(2, 3).reshape(-1, size * size, channels)


def join_windows(windows: Tensor, size: int, height: int, width: int) -> Tensor:
    """Put windows (B * windows, size * size, C) back into maps (B, H, W, C)."""
    channels = windows.shape[-1]
    grid = windows.view(-1, height // size, width // size, size, size, channels)
    return grid.transpose(2, 3).reshape(-1, height, width, channels)


def pad_to_windows(tokens: Tensor, size: int) -> Tensor:
    """Pad maps (B, H, W, C) with zeros on the right and at the bottom to whole windows."""
    bottom, right = -tokens.shape[1] % size, -tokens.shape[2] % size
    return F.pad(tokens, (0, 0, 0, right, 0, bottom)) if bottom or right else tokens


class Linear(nn.Linear):
    """A linear layer that starts from normal weights with deviation 0.02, and no bias.

    The usual truncated normal cuts these at +-2, a hundred deviations away, for three times the time of drawing them
    (the seconds that a large model takes to build); timm's even gives a weight in 20 million the value 2.
    """

    def reset_parameters(self) -> None:
        """Initialise the weights."""
        nn.init.normal_(self.weight, std=0.02)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Mlp(nn.Module):
    """The feed-forward part of a block.

    Args:
        dim: width of the tokens.
        hidden_dim: width between its two layers.
        activation: makes the activation between them.
    """

    def __init__(self, dim: int, hidden_dim: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden_dim)
        self.act = activation()
        self.fc2 = Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (..., C) to the same shape."""
        return self.fc2(self.act(self.fc1(x)))


class Attention(nn.Module):
    """Multi-head self-attention over all tokens, or within windows of a map.

    Padded positions take part in the softmax, as they do in the released models; what stands there depends
    on `window_padding`: the bias of `qkv` when tokens are padded before it, zeros when its output is padded.

    Args:
        dim: width of the tokens.
        num_heads: heads; divides `dim`.
        qkv_bias: whether the query, key and value projections have a bias.
        qk_norm: a norm over the full width of queries and keys, before they are split into heads.
        window_size: side of the windows in tokens; None for global attention.
        window_padding: whether maps are padded to whole windows before (`tokens`) or after `qkv`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        qkv_bias: bool = True,
        qk_norm: Norm | None = None,
        window_size: int | None = None,
        window_padding: WindowPadding = "tokens",
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.window_padding = window_padding
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.q_norm = qk_norm(dim) if qk_norm else nn.Identity()
        self.k_norm = qk_norm(dim) if qk_norm else nn.Identity()
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within `x`: a map (B, H, W, C), or with global attention any (B, ..., C)."""
        if self.window_size is None:
            return self.proj(self._attend(self._project(x.flatten(1, -2))).view(x.shape))
        height, width = x.shape[1:3]
        if self.window_padding == "tokens":
            qkv = self._project(pad_to_windows(x, self.window_size))
        else:
            qkv = pad_to_windows(self._project(x), self.window_size)
        windows = self._attend(split_windows(qkv, self.window_size))
        attended = join_windows(windows, self.window_size, qkv.shape[1], qkv.shape[2])
        return self.proj(attended[:, :height, :width])

    def _project(self, x: Tensor) -> Tensor:
        """Queries, keys and values, side by side."""
        return self.qkv(x)

    def _score_bias(self) -> Tensor | None:
        """What is added to the attention scores (heads, N, N), if anything."""
        return None

    def _attend(self, qkv: Tensor) -> Tensor:
        q, k, v = qkv.chunk(3, dim=-1)  # each (B, N, C)
        q, k, v = (
            t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (self.q_norm(q), self.k_norm(k), v)
        )  # (B, heads, N, C / heads)
        bias = self._score_bias()
        mask = None if bias is None else bias.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """A pre-norm transformer block: attention and MLP, each with an optional layer scale and drop path.

    Args:
        attention: the attention of this block.
        dim: width of the tokens.
        norm: makes a norm of a width.
        mlp_ratio: hidden width of the MLP over `dim`.
        activation: makes the MLP's activation.
        layer_scale: initial value of the layer scales; None for none.
        drop_path: probability of skipping a residual path of a sample in training.
    """

    def __init__(
        self,
        attention: nn.Module,
        dim: int,
        *,
        norm: Norm,
        mlp_ratio: float,
        activation: type[nn.Module],
        layer_scale: float | None,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1 = norm(dim)
        self.attn = attention
        self.ls1 = _layer_scale(dim, layer_scale)
        self.norm2 = norm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), activation)
        self.ls2 = _layer_scale(dim, layer_scale)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens to tokens of the same shape."""
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x))))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))


def _layer_scale(dim: int, init_value: float | None) -> nn.Module:
    return nn.Identity() if init_value is None else LayerScale(dim, init_values=init_value)
