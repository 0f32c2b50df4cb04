"""Pretrained models as the start of a branch.

DeiT, DeiT III, AugReg, MAE, DINOv2 and InternViT-6B for ViTs; BEiT and BEiTv2; Uni-Perceiver; ConvNeXt.
"""

from piip.zoo.pretrained.families import FAMILIES, Family
from piip.zoo.pretrained.load import load_branch, load_branches
from piip.zoo.pretrained.of_cards import CARD, card_sources
from piip.zoo.pretrained.report import LoadReport
from piip.zoo.pretrained.sources import parse_source

__all__ = [
    "CARD",
    "FAMILIES",
    "Family",
    "LoadReport",
    "card_sources",
    "load_branch",
    "load_branches",
    "parse_source",
]
