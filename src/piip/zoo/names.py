"""What the code that each architecture is from calls the tensors of a branch: tables of prefixes."""

from collections.abc import Mapping, Sequence

from piip.branches import AnyBranchConfig, BEiTConfig, ConvNeXtConfig, UniPerceiverConfig, ViTConfig

_VIT = {name: name for name in ("cls_token", "pos_embed", "patch_embed")}
_BLOCK = {name: name for name in ("norm1", "attn", "ls1", "norm2", "mlp", "ls2")}
_GAMMA_BLOCK = _BLOCK | {"ls1.gamma": "gamma_1", "ls2.gamma": "gamma_2"}  # of DeiT and BEiT
_UNI_PERCEIVER = {
    "patch_embed.proj": "visual_embed.patch_embed.proj",
    "spatial_pos_embed": "visual_embed.patch_embed.spatial_pos_embed.weight",
    "temporal_pos_embed": "visual_embed.patch_embed.temporal_pos_embed.weight",
    "embed_norm": "visual_embed.embeddings_norm",
}
_UNI_PERCEIVER_BLOCK = {
    "norm1": "norm1",
    "attn.qkv": "self_attn.in_proj",
    "attn.proj": "self_attn.out_proj",
    "ls1.gamma": "gamma_1",
    "norm2": "norm2",
    "mlp.fc1": "linear1",
    "mlp.fc2": "linear2",
    "ls2.gamma": "gamma_2",
}
_CONVNEXT = {
    "patch_embed": "embeddings.patch_embeddings",
    "embed_norm": "embeddings.layernorm",
}
_CONVNEXT_BLOCK = {
    "dwconv": "dwconv",
    "norm": "layernorm",
    "mlp.fc1": "pwconv1",
    "mlp.fc2": "pwconv2",
    "ls.gamma": "layer_scale_parameter",
}
_CONVNEXT_DOWNSAMPLING = {
    "norm": "downsampling_layer.0",
    "reduction": "downsampling_layer.1",
}


def branch_tensor(parts: Sequence[str], branch: AnyBranchConfig) -> str:
    """The original name of a tensor of a branch, without a prefix.

    A ViT without a class-token position is a DeiT, one with it InternViT's; ConvNeXts are those of transformers.

    Args:
        parts: its name in ours, split at the dots.
        branch: what it is a tensor of.

    Raises:
        KeyError: for a name that has no counterpart.
    """
    match branch, parts:
        case ViTConfig(), ["blocks", block, *rest]:
            return f"blocks.{block}.{translate(rest, _BLOCK if branch.class_pos_embed != 'none' else _GAMMA_BLOCK)}"
        case BEiTConfig(), ["blocks", block, *rest]:
            return f"blocks.{block}.{translate(rest, _GAMMA_BLOCK)}"
        case UniPerceiverConfig(), ["blocks", block, *rest]:
            return f"layers.{block}.{translate(rest, _UNI_PERCEIVER_BLOCK)}"
        case ConvNeXtConfig(), ["blocks", block, *rest]:
            return f"encoder.stages.{_convnext_tensor(int(block), rest, branch)}"
        case UniPerceiverConfig(), _:
            return translate(parts, _UNI_PERCEIVER)
        case ConvNeXtConfig(), _:
            return translate(parts, _CONVNEXT)
        case _:
            return translate(parts, _VIT)


def translate(parts: Sequence[str], table: Mapping[str, str], **places: str) -> str:
    """Replace the longest prefix that the table has.

    Raises:
        KeyError: when it has none.
    """
    for length in range(len(parts), 0, -1):
        other = table.get(".".join(parts[:length]))
        if other is not None:
            return ".".join([other.format(**places), *parts[length:]])
    raise KeyError(".".join(parts))


def _convnext_tensor(block: int, parts: Sequence[str], branch: ConvNeXtConfig) -> str:
    """Blocks are counted within their width there, and the layer between two widths belongs to the second."""
    width = 0
    while block > branch.depths[width]:
        block -= branch.depths[width] + 1
        width += 1
    if block == branch.depths[width]:
        return f"{width + 1}.{translate(parts, _CONVNEXT_DOWNSAMPLING)}"
    return f"{width}.layers.{block}.{translate(parts, _CONVNEXT_BLOCK)}"
