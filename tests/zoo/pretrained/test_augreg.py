"""AugReg's arrays under our names; their values are compared in the parity tests."""

import pytest
import torch
from torch import Tensor

from piip.weights import WeightsError
from piip.zoo.pretrained.augreg import convert_arrays, num_heads

ATTENTION = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1"


def attention(dim: int = 8, heads: int = 2) -> dict[str, Tensor]:
    return {
        f"{ATTENTION}/{name}/{kind}": torch.ones(*shape)
        for name in ("query", "key", "value")
        for kind, shape in (("kernel", (dim, heads, dim // heads)), ("bias", (heads, dim // heads)))
    }


def test_attention_is_fused() -> None:
    tensors = convert_arrays(attention())
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "blocks.0.attn.qkv.weight": (24, 8),
        "blocks.0.attn.qkv.bias": (24,),
    }
    assert num_heads(attention(heads=4)) == 4
    assert num_heads({}) is None


def test_unknown_arrays_are_refused() -> None:
    for name in (
        "pre_logits/kernel",
        "Transformer/encoderblock_x/LayerNorm_0/scale",
        "Transformer/encoderblock_0/other",
    ):
        with pytest.raises(WeightsError, match=f"{name}: AugReg models have no such array"):
            convert_arrays({name: torch.ones(2, 2)})


def test_half_a_block_is_refused() -> None:
    arrays = attention()
    del arrays[f"{ATTENTION}/key/bias"]
    with pytest.raises(WeightsError, match=r"blocks\.0\.attn\.k\.bias: missing beside blocks\.0\.attn\.q\.bias"):
        convert_arrays(arrays)
    arrays = attention()
    del arrays[f"{ATTENTION}/query/kernel"]
    with pytest.raises(WeightsError, match=r"blocks\.0\.attn\.q\.weight: missing beside blocks\.0\.attn\.k\.weight"):
        convert_arrays(arrays)


def test_arrays_of_another_rank_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"embedding/kernel: \(3, 4\) is not the shape of such an array"):
        convert_arrays({"embedding/kernel": torch.ones(3, 4)})
    with pytest.raises(WeightsError, match=r"head/kernel: \(\) is not the shape of such an array"):
        convert_arrays({"head/kernel": torch.ones(())})
