"""The JAX arrays of AugReg's `.npz` files as the tensors of a ViT."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from piip.weights import WeightsError

_Layout = Callable[[Tensor], Tensor]

_BLOCK = "Transformer/encoderblock_"
_ATTENTION = "MultiHeadDotProductAttention_1"


def _same(array: Tensor) -> Tensor:
    return array


def _linear(array: Tensor) -> Tensor:
    return array.reshape(array.shape[0], -1).T  # (in, out), or (in, heads, head_dim)


def _output(array: Tensor) -> Tensor:
    return array.flatten(0, 1).T  # (heads, head_dim, out)


def _convolution(array: Tensor) -> Tensor:
    return array.permute(3, 2, 0, 1)  # (height, width, in, out)


_TENSORS: dict[str, tuple[str, _Layout]] = {
    "cls": ("cls_token", _same),
    "Transformer/posembed_input/pos_embedding": ("pos_embed", _same),
    "embedding/kernel": ("patch_embed.proj.weight", _convolution),
    "embedding/bias": ("patch_embed.proj.bias", _same),
    "Transformer/encoder_norm/scale": ("norm.weight", _same),
    "Transformer/encoder_norm/bias": ("norm.bias", _same),
    "head/kernel": ("head.weight", _linear),
    "head/bias": ("head.bias", _same),
}
_BLOCK_TENSORS: dict[str, tuple[str, _Layout]] = {
    "LayerNorm_0/scale": ("norm1.weight", _same),
    "LayerNorm_0/bias": ("norm1.bias", _same),
    f"{_ATTENTION}/query/kernel": ("attn.q.weight", _linear),
    f"{_ATTENTION}/query/bias": ("attn.q.bias", torch.flatten),
    f"{_ATTENTION}/key/kernel": ("attn.k.weight", _linear),
    f"{_ATTENTION}/key/bias": ("attn.k.bias", torch.flatten),
    f"{_ATTENTION}/value/kernel": ("attn.v.weight", _linear),
    f"{_ATTENTION}/value/bias": ("attn.v.bias", torch.flatten),
    f"{_ATTENTION}/out/kernel": ("attn.proj.weight", _output),
    f"{_ATTENTION}/out/bias": ("attn.proj.bias", _same),
    "LayerNorm_2/scale": ("norm2.weight", _same),
    "LayerNorm_2/bias": ("norm2.bias", _same),
    "MlpBlock_3/Dense_0/kernel": ("mlp.fc1.weight", _linear),
    "MlpBlock_3/Dense_0/bias": ("mlp.fc1.bias", _same),
    "MlpBlock_3/Dense_1/kernel": ("mlp.fc2.weight", _linear),
    "MlpBlock_3/Dense_1/bias": ("mlp.fc2.bias", _same),
}


def convert_arrays(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and transpose the arrays of a file.

    Args:
        arrays: under their JAX names.

    Raises:
        WeightsError: naming the array that is unknown, of the wrong rank, or missing beside others of its block.
    """
    tensors: dict[str, Tensor] = {}
    for name, array in arrays.items():
        own, layout = _own_name(name)
        try:
            tensors[own] = layout(array)
        except (RuntimeError, IndexError) as error:
            raise WeightsError(f"{name}: {tuple(array.shape)} is not the shape of such an array") from error
    return _fuse_qkv(tensors)


def num_heads(arrays: Mapping[str, Tensor]) -> int | None:
    """The number of attention heads, which only this format tells."""
    kernel = arrays.get(f"{_BLOCK}0/{_ATTENTION}/query/kernel")
    return None if kernel is None or kernel.dim() != 3 else kernel.shape[1]


def _own_name(name: str) -> tuple[str, _Layout]:
    block, _, rest = name.removeprefix(_BLOCK).partition("/")
    if name in _TENSORS:
        return _TENSORS[name]
    if name.startswith(_BLOCK) and block.isdigit() and rest in _BLOCK_TENSORS:
        own, layout = _BLOCK_TENSORS[rest]
        return f"blocks.{block}.{own}", layout
    raise WeightsError(f"{name}: AugReg models have no such array")


def _fuse_qkv(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join the query, key and value projections of each block."""
    fused: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match name.split(".attn."):
            case [block, part] if part.startswith(("q.", "k.", "v.")):
                parts = [f"{block}.attn.{letter}{part[1:]}" for letter in "qkv"]
                absent = [part for part in parts if part not in tensors]
                if absent:
                    raise WeightsError(f"{', '.join(absent)}: missing beside {name}")
                if name == parts[0]:
                    fused[f"{block}.attn.qkv{part[1:]}"] = torch.cat([tensors[part] for part in parts])
            case _:
                fused[name] = tensor
    return fused
