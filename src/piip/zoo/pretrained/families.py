"""What the checkpoints of each family hold, and which of timm's models belong to it.

Beyond what stands in these tables, all families name their tensors as our ViT does, with `norm` and `head` after
the last block.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Family = Literal["deit", "deit3", "augreg", "mae", "dinov2", "internvit_6b"]


@dataclass(frozen=True, kw_only=True)
class FamilyFormat:
    """What the checkpoints of a family hold.

    Attributes:
        layer_scale: whether there are layer scales. Without, a branch keeps those it has been built with.
        renames: what a tensor of a block is called there, and in our blocks.
        ignored: what pretraining needed and a branch does not: first part of the name, and what it is.
    """

    layer_scale: bool
    renames: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)

    def own_name(self, name: str) -> str:
        """Our name of a tensor of the checkpoint."""
        match name.split(".", 2):
            case ["blocks", block, rest] if rest in self.renames:
                return f"blocks.{block}.{self.renames[rest]}"
            case _:
                return name


FAMILIES: dict[Family, FamilyFormat] = {
    "deit": FamilyFormat(layer_scale=False),
    "deit3": FamilyFormat(layer_scale=True, renames={"gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}),
    "augreg": FamilyFormat(layer_scale=False),
    "mae": FamilyFormat(
        layer_scale=False,
        ignored={
            "mask_token": "part of the decoder",
            "decoder_embed": "part of the decoder",
            "decoder_pos_embed": "part of the decoder",
            "decoder_blocks": "part of the decoder",
            "decoder_norm": "part of the decoder",
            "decoder_pred": "part of the decoder",
        },
    ),
    "dinov2": FamilyFormat(layer_scale=True, ignored={"mask_token": "stands for masked patches in pretraining"}),
    "internvit_6b": FamilyFormat(
        layer_scale=True, ignored={"clip_projector": "pools the tokens for contrastive pretraining"}
    ),
}

# Distilled DeiT (a second token), hybrids (a ResNet stem), DINOv2 with registers and the giant one (a gated MLP) are
# other architectures.
_TIMM: dict[str, Family] = {
    r"deit_(tiny|small|base)_patch16_\d+\.fb_in1k": "deit",
    r"deit3_(small|medium|base|large|huge)_patch\d+_\d+\.fb_\w+": "deit3",
    r"vit_(tiny|small|base|large)_patch\d+_\d+\.augreg2?_\w+": "augreg",
    r"vit_(base|large|huge)_patch\d+_224\.mae": "mae",
    r"vit_(small|base|large)_patch14_dinov2\.lvd142m": "dinov2",
}


def family_of_timm(name: str) -> Family | None:
    """The family of a model of timm, by its name with the tag of its weights; None for other models."""
    return next((family for pattern, family in _TIMM.items() if re.fullmatch(pattern, name)), None)
