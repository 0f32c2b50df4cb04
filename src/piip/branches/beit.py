"""BEiT and BEiTv2 (arXiv 2106.08254, 2208.06366) with window attention."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piip.branches.layers import Attention
from piip.branches.transformer import TransformerBranch, TransformerConfig, make_blocks


@dataclass(frozen=True, kw_only=True)
class BEiTConfig(TransformerConfig):
    """A BEiT as a branch of a pyramid, beside `TransformerConfig`.

    Positions are known only by a learned bias for each offset between two tokens of a window, in every block, so
    `window_size` has no None here. Maps that are no multiple of the window are padded with zeros before the qkv
    projection.

    Attributes:
        qkv_bias: whether the projections of queries and values have a bias; that of keys never has.
    """

    qkv_bias: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            ValueError: naming the fields and their values.
        """
        super().__post_init__()
        if len(self.windows) < self.depth:
            raise ValueError(
                f"window_size: a BEiT knows positions only within windows, so it cannot be None; got {self.window_size}"
            )

    @property
    def windows(self) -> tuple[int, ...]:
        """The window size of each block."""
        return tuple(size for size in super().windows if size is not None)

    @property
    def class_token(self) -> bool:
        """A class token belongs to no window."""
        return False

    def make_norm(self, dim: int) -> nn.Module:
        """A norm of this model's kind."""
        return nn.LayerNorm(dim, eps=1e-6)

    def build(self) -> "BEiT":
        """The network, with freshly initialised weights."""
        return BEiT(self)


class BEiT(TransformerBranch):
    """A BEiT without head, in stages."""

    def __init__(self, config: BEiTConfig) -> None:
        super().__init__(config)
        self.config = config
        attentions = (
            RelativeAttention(config.embed_dim, config.num_heads, window, qkv_bias=config.qkv_bias)
            for window in config.windows
        )
        self.blocks = make_blocks(config, attentions)


class RelativeAttention(Attention):
    """Attention in windows, with a learned bias for each offset between two tokens.

    Args:
        dim: width of the tokens.
        num_heads: heads; divides `dim`.
        window_size: side of the windows in tokens.
        qkv_bias: whether the projections of queries and values have a bias.
    """

    def __init__(self, dim: int, num_heads: int, window_size: int, *, qkv_bias: bool) -> None:
        super().__init__(dim, num_heads, qkv_bias=False, window_size=window_size)
        self.q_bias = nn.Parameter(torch.zeros(dim)) if qkv_bias else None
        self.v_bias = nn.Parameter(torch.zeros(dim)) if qkv_bias else None
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))

    def _project(self, x: Tensor) -> Tensor:
        if self.q_bias is None or self.v_bias is None:
            return self.qkv(x)
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        return F.linear(x, self.qkv.weight, bias)

    def _score_bias(self) -> Tensor:
        return relative_bias(self.relative_position_bias_table)


def relative_bias(table: Tensor) -> Tensor:
    """The bias between each two tokens of a window.

    Args:
        table: ((2 * size - 1) ** 2, heads), one row for each offset of a query from a key, from (1 - size, 1 - size)
            to (size - 1, size - 1), row by row.

    Returns:
        (heads, size * size, size * size), for queries and keys.
    """
    side = round(len(table) ** 0.5)
    size = (side + 1) // 2
    offsets = table.T.unflatten(1, (side, side))
    # Entry (i, k) of an unfolded axis is for the offset i + k - (size - 1); of query i and key k, if keys are reversed.
    unfolded = offsets.unfold(1, size, 1).unfold(2, size, 1)  # (heads, query y, query x, key y, key x)
    return unfolded.flip(-2, -1).reshape(-1, size**2, size**2)
