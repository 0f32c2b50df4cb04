"""The transformer block of the ViT family."""

import math

import pytest
import torch
from torch import Tensor, nn

from piip.branches.layers import Attention, Block, Linear, join_windows, pad_to_windows, split_windows
from tiny_models import images, randomised


@pytest.mark.parametrize(("height", "width", "size"), [(4, 6, 2), (3, 3, 3), (6, 3, 3), (2, 5, 1)])
def test_windows_are_cut_row_by_row_and_put_back(height: int, width: int, size: int) -> None:
    tokens = images(2, height, width, 5)
    windows = split_windows(tokens, size)
    expected = [
        tokens[batch, top : top + size, left : left + size].reshape(size * size, 5)
        for batch in range(2)
        for top in range(0, height, size)
        for left in range(0, width, size)
    ]
    assert torch.equal(windows, torch.stack(expected))
    assert torch.equal(join_windows(windows, size, height, width), tokens)


def test_padding_is_right_and_at_the_bottom() -> None:
    tokens = images(1, 3, 5, 2)
    padded = pad_to_windows(tokens, 4)
    assert padded.shape == (1, 4, 8, 2)
    assert torch.equal(padded[:, :3, :5], tokens)
    assert not padded[:, 3:].any()
    assert not padded[:, :, 5:].any()
    assert pad_to_windows(tokens, 1) is tokens


def attend_plainly(attention: Attention, tokens: Tensor) -> Tensor:
    """Windowed attention as nested loops, from its definition."""
    size = attention.window_size
    assert size is not None
    batch, height, width, dim = tokens.shape
    rows, columns = math.ceil(height / size), math.ceil(width / size)
    if attention.window_padding == "tokens":
        padded = tokens.new_zeros(batch, rows * size, columns * size, dim)
        padded[:, :height, :width] = tokens
        qkv = attention.qkv(padded)
    else:
        qkv = tokens.new_zeros(batch, rows * size, columns * size, 3 * dim)
        qkv[:, :height, :width] = attention.qkv(tokens)
    q, k, v = attention.q_norm(qkv[..., :dim]), attention.k_norm(qkv[..., dim : 2 * dim]), qkv[..., 2 * dim :]
    result = torch.empty(batch, rows * size, columns * size, dim)
    head_dim = dim // attention.num_heads
    for image in range(batch):
        for row in range(rows):
            for column in range(columns):
                place = (image, slice(row * size, (row + 1) * size), slice(column * size, (column + 1) * size))
                for head in range(attention.num_heads):
                    part = (*place, slice(head * head_dim, (head + 1) * head_dim))
                    queries, keys, values = (t[part].reshape(-1, head_dim) for t in (q, k, v))
                    weights = (queries @ keys.T / math.sqrt(head_dim)).softmax(dim=-1)
                    result[part] = (weights @ values).view(size, size, head_dim)
    return attention.proj(result[:, :height, :width])


@torch.no_grad()
@pytest.mark.parametrize("qk_norm", [None, nn.LayerNorm])
@pytest.mark.parametrize("padding", ["tokens", "qkv"])
@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(4, 6, 2), (5, 7, 3), (3, 2, 5), (4, 5, 4)],  # dividing, not, larger than the map, dividing one side
)
def test_windowed_attention(height: int, width: int, size: int, padding: str, qk_norm: type[nn.Module] | None) -> None:
    attention = randomised(Attention(24, 3, qk_norm=qk_norm, window_size=size, window_padding=padding))
    tokens = images(2, height, width, 24)
    torch.testing.assert_close(attention(tokens), attend_plainly(attention, tokens), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_the_two_paddings_differ_only_where_there_is_padding() -> None:
    before = randomised(Attention(24, 3, window_size=3, window_padding="tokens"))
    after = Attention(24, 3, window_size=3, window_padding="qkv")
    after.load_state_dict(before.state_dict())
    tokens = images(1, 5, 6, 24)
    difference = (before(tokens) - after(tokens)).abs().amax(dim=(0, 2, 3))
    assert difference[:3].max() == 0  # the upper windows are whole
    assert difference[3:].min() > 1e-3


@torch.no_grad()
def test_global_attention_is_one_window_over_everything() -> None:
    everywhere = randomised(Attention(24, 3))
    window = Attention(24, 3, window_size=4)
    window.load_state_dict(everywhere.state_dict())
    tokens = images(2, 4, 4, 24)
    torch.testing.assert_close(everywhere(tokens), window(tokens), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(everywhere(tokens).flatten(1, 2), everywhere(tokens.flatten(1, 2)))


def test_empty_batch() -> None:
    for window in (None, 2):
        assert Attention(24, 3, window_size=window)(images(0, 3, 3, 24)).shape == (0, 3, 3, 24)


def test_initialisation_of_linear_layers() -> None:
    torch.manual_seed(0)
    linear = Linear(500, 500)
    assert linear.weight.mean().item() == pytest.approx(0, abs=2e-4)
    assert linear.weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert linear.weight.abs().max() < 0.12  # six deviations
    assert not linear.bias.any()
    assert Linear(3, 3, bias=False).bias is None
    torch.manual_seed(0)
    assert torch.equal(Linear(500, 500).weight, linear.weight)


def test_layer_scale_and_drop_path_are_left_out_where_they_do_nothing() -> None:
    def block(layer_scale: float | None, drop_path: float) -> Block:
        return Block(
            Attention(8, 2),
            8,
            norm=nn.LayerNorm,
            mlp_ratio=2,
            activation=nn.GELU,
            layer_scale=layer_scale,
            drop_path=drop_path,
        )

    tokens = images(4, 2, 2, 8)
    assert not any("ls" in name for name in block(None, 0.0).state_dict())
    assert torch.equal(block(0.0, 0.0)(tokens), tokens)
    dropped = block(None, 0.999999).train()
    assert torch.equal(dropped(tokens), tokens)
    assert not torch.equal(dropped.eval()(tokens), tokens)
