"""The architectures that a branch of a pyramid can have."""

from piip.branches.base import Branch, BranchConfig, Tokens, even_stages
from piip.branches.beit import BEiT, BEiTConfig
from piip.branches.convnext import ConvNeXt, ConvNeXtConfig
from piip.branches.uniperceiver import UniPerceiver, UniPerceiverConfig
from piip.branches.vit import ViT, ViTConfig

AnyBranchConfig = ViTConfig | BEiTConfig | UniPerceiverConfig | ConvNeXtConfig
"""All of them: what a stored configuration may hold."""

__all__ = [
    "AnyBranchConfig",
    "BEiT",
    "BEiTConfig",
    "Branch",
    "BranchConfig",
    "ConvNeXt",
    "ConvNeXtConfig",
    "Tokens",
    "UniPerceiver",
    "UniPerceiverConfig",
    "ViT",
    "ViTConfig",
    "even_stages",
]
