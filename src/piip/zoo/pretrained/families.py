"""What the checkpoints of each family hold, and which of timm's models belong to it.

Beyond what stands in these tables, families of ViTs name their tensors as our ViT does, with `norm` and `head` after
the last block; the others as `piip.zoo.names` says.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from piip.branches import AnyBranchConfig, BEiTConfig, ConvNeXtConfig, UniPerceiverConfig, ViTConfig

Family = Literal["deit", "deit3", "augreg", "mae", "dinov2", "internvit_6b", "beit", "uniperceiver", "convnext"]


@dataclass(frozen=True, kw_only=True)
class FamilyFormat:
    """What the checkpoints of a family hold.

    Attributes:
        layer_scale: whether there are layer scales. Without, a branch keeps those it has been built with.
        branch: the kind of branch that they are for.
        renames: what a tensor of a block is called there, and in our blocks.
        prefix: what may stand before every name.
        ignored: what pretraining needed and a branch does not: first or last part of the name, and what it is.
        image_parts: first parts of the names there that are of the image encoder, where other things stand beside it.
    """

    layer_scale: bool
    branch: type[AnyBranchConfig] = ViTConfig
    renames: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    ignored: Mapping[str, str] = field(default_factory=dict)
    image_parts: tuple[str, ...] = ()

    def why_ignored(self, name: str) -> str:
        """Why a tensor goes nowhere; empty if it must go somewhere."""
        first, last = name.partition(".")[0], name.rpartition(".")[2]
        if self.image_parts and first not in self.image_parts:
            return "no part of the image encoder"
        return self.ignored.get(first) or self.ignored.get(last, "")

    def own_name(self, name: str) -> str:
        """The name of a tensor of the checkpoint without what is particular to the family."""
        name = name.removeprefix(self.prefix)
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
    "beit": FamilyFormat(
        layer_scale=True,
        branch=BEiTConfig,
        ignored={
            "cls_token": "the branch has no class token",
            "mask_token": "stands for masked patches in pretraining",
            "relative_position_index": "follows from the size of the windows",
            "norm": "normalises what is left out here",
            "fc_norm": "normalises the mean of the tokens for the classifier",
            "head": "classifies the mean of the tokens",
            "lm_head": "predicts visual words in pretraining",
        },
    ),
    "uniperceiver": FamilyFormat(layer_scale=True, branch=UniPerceiverConfig, image_parts=("layers", "visual_embed")),
    "convnext": FamilyFormat(
        layer_scale=True,
        branch=ConvNeXtConfig,
        prefix="convnext.",
        ignored={
            "layernorm": "normalises the mean of the map for the classifier",
            "classifier": "classifies the mean of the map",
        },
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
    r"beit(v2)?_(base|large)_patch16_\d+\.in\w+": "beit",
    r"convnext_(tiny|small|base|large)\.(fb_)?in\w+": "convnext",
}
_TIMM_CONVNEXT = (  # timm's names of a ConvNeXt's tensors, and those of transformers
    (r"stem\.0", "embeddings.patch_embeddings"),
    (r"stem\.1", "embeddings.layernorm"),
    (r"stages\.(\d)\.downsample", r"encoder.stages.\1.downsampling_layer"),
    (r"stages\.(\d)\.blocks\.(\d+)\.gamma", r"encoder.stages.\1.layers.\2.layer_scale_parameter"),
    (r"stages\.(\d)\.blocks\.(\d+)\.conv_dw", r"encoder.stages.\1.layers.\2.dwconv"),
    (r"stages\.(\d)\.blocks\.(\d+)\.norm", r"encoder.stages.\1.layers.\2.layernorm"),
    (r"stages\.(\d)\.blocks\.(\d+)\.mlp\.fc(\d)", r"encoder.stages.\1.layers.\2.pwconv\3"),
    (r"head\.norm", "layernorm"),
    (r"head\.fc", "classifier"),
)


def family_of_timm(name: str) -> Family | None:
    """The family of a model of timm, by its name with the tag of its weights; None for other models."""
    return next((family for pattern, family in _TIMM.items() if re.fullmatch(pattern, name)), None)


def from_timm(name: str, family: Family) -> str:
    """The name of a tensor in the family's own files, by its name in timm."""
    for theirs, own in _TIMM_CONVNEXT if family == "convnext" else ():
        if match := re.match(theirs, name):
            return match.expand(own) + name[match.end() :]
    return name
