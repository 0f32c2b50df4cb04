"""Tensors that the official backbones have, and that have no part in what they compute.

- `relative_position_index` of each block of a BEiT: which row of its table is for which two tokens.
- `convnext_model.layernorm` of a ConvNeXt: the last norm of its class in transformers.
- `fpn1` of a pyramid of three branches for DINO, which has no map of that scale.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from piip.branches import AnyBranchConfig, BEiTConfig, ConvNeXtConfig
from piip.pyramid import BackboneConfig
from piip.pyramid.backbone import make_level
from piip.zoo.official.detection import DINO_LEVELS
from piip.zoo.official.keys import level_name, of_branch


def unused_tensors(config: BackboneConfig) -> dict[str, Tensor]:
    """What a backbone of this configuration has officially and not in ours.

    Returns:
        The tensors by their official names, as the official constructor makes them; the random ones of `fpn1` are
        always the same.
    """
    tensors = {
        of_branch(number, name, config.pyramid): tensor
        for number, branch in enumerate(config.pyramid.branches, 1)
        for name, tensor in _of_branch(branch)
    }
    if len(config.pyramid.branches) == 3 and [level.scale for level in config.levels] == [
        level.scale for level in DINO_LEVELS
    ]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            level = make_level(4, config.channels[0], config.upsampling_norm)
        tensors |= {f"{level_name(4, config)}.{name}": tensor for name, tensor in level.state_dict().items()}
    return tensors


def relative_position_index(size: int) -> Tensor:
    """The row of a BEiT's table (size * size, size * size) for each query and key of a window."""
    cells = torch.arange(size)
    offsets = cells[:, None] - cells + size - 1
    rows = offsets[:, None, :, None] * (2 * size - 1) + offsets[None, :, None, :]  # query y, query x, key y, key x
    return rows.reshape(size**2, size**2)


def _of_branch(branch: AnyBranchConfig) -> Iterator[tuple[str, Tensor]]:
    if isinstance(branch, BEiTConfig):
        indices = {size: relative_position_index(size) for size in set(branch.windows)}
        for block, size in enumerate(branch.windows):
            yield f"blocks.{block}.attn.relative_position_index", indices[size]
    if isinstance(branch, ConvNeXtConfig):
        yield "convnext_model.layernorm.weight", torch.ones(branch.widths[-1])
        yield "convnext_model.layernorm.bias", torch.zeros(branch.widths[-1])
