"""Models whose cost is published, as our configurations: the released ones, and the rows of the paper's tables."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from piip import ClassificationConfig, InteractionConfig, PyramidConfig, SeparateHeadsConfig, ViTConfig, even_stages
from piip.branches.presets import ViTSize, vit
from piip.pyramid import BackboneConfig
from piip.zoo.cards import find_card

PUBLISHED: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "published_costs.json").read_text())

DIRECTIONS = {
    "type 1": InteractionConfig(turns=2),
    "type 2": InteractionConfig(edges=((2, 3), (1, 2), (3, 1))),
    "type 3": InteractionConfig(edges=((3, 2), (2, 1), (1, 3))),
    "type 4": InteractionConfig(),
    "type 5": InteractionConfig(edges=((1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2))),
}
"""The directions of the paper's Table 10, as the FLOPs tell them. Types 2 and 3 may be each other's."""

_SIZES: dict[str, ViTSize] = {"T": "tiny", "S": "small", "B": "base", "L": "large", "H": "huge"}


def released(name: str, *, as_built: bool = False) -> ClassificationConfig | BackboneConfig:
    """A released classifier, or the backbone of a released detector or segmentor, by its official name.

    Args:
        name: of its card.
        as_built: whether branch 4 of four is what the official detection code builds, of the arguments of branch 3.
    """
    card = find_card(name)
    config = card.variants[0]() if as_built else card.config()
    return config if isinstance(config, ClassificationConfig) else config.backbone


def paper_model(row: dict[str, Any]) -> ClassificationConfig | BackboneConfig:
    """The model of a row of the paper's tables.

    The paper does not say which windows its segmentors, its InternViT-6B and its parameter-direct pyramid have: these
    follow from the printed FLOPs.
    """
    if row["table"] == "13":
        return _from_scratch()
    letters = row["branches"].split("+") if "6B" in row["branches"] else list(row["branches"])
    branches = [_branch(letter, size) for letter, size in zip(letters, row["resolution"], strict=True)]
    if row.get("task") == "classification":
        pyramid = _pyramid([replace(branch, class_token=True) for branch in branches], row)
        return ClassificationConfig(pyramid=pyramid, head=SeparateHeadsConfig(reads="first_patch"))
    if len(letters) == 1 and letters != ["6B"]:
        branches = [_third_without_windows(branches[0], segments="task" in row)]
    else:
        window = 28 if letters in (["L", "B", "S"], ["L", "B", "S", "T"]) or row["table"] == "5" else 14
        branches = [replace(branch, window_size=window) for branch in branches]
    if "parameter-direct" in row["model"]:
        branches[0] = _third_without_windows(branches[0])
    return BackboneConfig(pyramid=_pyramid(branches, row))


def _pyramid(branches: list[ViTConfig], row: dict[str, Any]) -> PyramidConfig:
    interactions = row.get("interactions", 12)
    if interactions not in (0, 12):
        branches = [replace(branch, stages=even_stages(branch.depth, interactions)) for branch in branches]
    if not interactions or len(branches) == 1:
        interaction = InteractionConfig(edges=())
    elif row["table"] == "10":
        interaction = DIRECTIONS[row["model"].removeprefix("PIIP-TSB, direction ").removesuffix(" of Figure 6")]
    else:
        interaction = InteractionConfig(attention=row.get("attention", "deformable"))
    return PyramidConfig(branches=tuple(branches), interaction=interaction)


def _third_without_windows(branch: ViTConfig, *, segments: bool = False) -> ViTConfig:
    """Windows of 14 tokens in two thirds of the blocks; those of segmentors are padded before `qkv`."""
    third = branch.depth // 3
    windows = (14,) * (branch.depth - third) + (None,) * third
    return replace(branch, window_size=windows, class_pos_embed="unused" if segments else "none")


def _branch(letter: str, size: int) -> ViTConfig:
    if letter == "6B":  # its norms are counted: not the RMSNorm that it is pretrained with
        return ViTConfig(
            image_size=size,
            depth=48,
            embed_dim=3200,
            num_heads=25,
            stages=even_stages(48, 12),
            qkv_bias=False,
            class_token=False,
            class_pos_embed="unused",
            window_padding="qkv",
            layer_scale=0.1,
        )
    return vit(_SIZES[letter], image_size=size, class_token=False, layer_scale=1.0)


def _from_scratch() -> BackboneConfig:
    """PIIP-B of Table 13; its windows of 16 tokens follow from the printed FLOPs of branch 3."""
    sizes = {128: (640, 8), 256: (320, 4), 512: (160, 2)}
    branches = tuple(
        ViTConfig(
            image_size=size,
            depth=12,
            embed_dim=dim,
            num_heads=heads,
            stages=(1,) * 12,
            class_token=False,
            window_size=None if size < 256 else 16,
        )
        for size, (dim, heads) in sizes.items()
    )
    return BackboneConfig(pyramid=PyramidConfig(branches=branches))
