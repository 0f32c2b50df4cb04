"""The branches of the released detectors.

Window sizes are those that the published FLOPs follow from. Rates of drop path are officially known of TSB alone; for
larger branches they are what the paper has for classification. They matter in training only.
"""

from dataclasses import replace
from typing import Any, Literal

from piip.branches import AnyBranchConfig, BEiTConfig, UniPerceiverConfig, ViTConfig, even_stages
from piip.branches.presets import ViTSize, vit
from piip.pyramid import InteractionConfig, PyramidConfig

GELU = Literal["exact", "tanh"]

_DROP_PATH: dict[ViTSize, float] = {"tiny": 0.05, "small": 0.05, "base": 0.15, "large": 0.4, "huge": 0.4}


def deit(size: ViTSize, image_size: int, window: int | None, pretrained_size: int = 224) -> ViTConfig:
    """A DeiT or DeiT III.

    Args:
        size: which one.
        image_size: side of the image that the branch sees, in pixels.
        window: side of the windows of all blocks, in tokens; None for global attention.
        pretrained_size: image size that the stored positions are for.
    """
    branch = vit(size, image_size=image_size, class_token=False, layer_scale=1.0, drop_path=_DROP_PATH[size])
    return replace(branch, window_size=window, pos_embed_size=pretrained_size)


def augreg(
    size: ViTSize, image_size: int, window: int | None, pretrained_size: int, *, gelu: GELU = "exact"
) -> ViTConfig:
    """A ViT of AugReg, MAE or DINOv2; officially these are InternViTs, which store a position of a class token.

    Args:
        size: which one.
        image_size: side of the image that the branch sees, in pixels.
        window: side of the windows of all blocks, in tokens; None for global attention.
        pretrained_size: image size that the stored positions are for.
        gelu: exact, or the approximation of the official configurations with fused layers.
    """
    branch = deit(size, image_size, window, pretrained_size)
    return replace(branch, class_pos_embed="unused", drop_path_rule="linear", gelu=gelu)


def internvit_6b(image_size: int, window: int | None = None, *, gelu: GELU = "exact") -> ViTConfig:
    """InternViT-6B.

    Args:
        image_size: side of the image that the branch sees, in pixels.
        window: side of the windows of all blocks, in tokens; None for global attention.
        gelu: as of `augreg`.
    """
    return ViTConfig(
        image_size=image_size,
        depth=48,
        embed_dim=3200,
        num_heads=25,
        stages=even_stages(48, 12),
        window_size=window,
        class_token=False,
        class_pos_embed="unused",
        pos_embed_size=224,
        qkv_bias=False,
        qk_norm=True,
        norm="rmsnorm",
        gelu=gelu,
        layer_scale=0.1,
        drop_path=0.4,
        drop_path_rule="linear",
    )


def beit(size: ViTSize, image_size: int) -> BEiTConfig:
    """A BEiTv2."""
    return BEiTConfig(layer_scale=1e-6, **_windowed(size, image_size))


def uniperceiver(size: ViTSize, image_size: int) -> UniPerceiverConfig:
    """A Uni-Perceiver."""
    return UniPerceiverConfig(pos_embed_size=224, layer_scale=0.0, **_windowed(size, image_size))


def _windowed(size: ViTSize, image_size: int) -> dict[str, Any]:
    """What a ViT of this size has in common with the other families, which have windows of 28 tokens."""
    like = vit(size, image_size=image_size)
    return {
        "image_size": image_size,
        "depth": like.depth,
        "embed_dim": like.embed_dim,
        "num_heads": like.num_heads,
        "stages": like.stages,
        "window_size": 28,
        "drop_path": _DROP_PATH[size],
        "drop_path_rule": "linear",
    }


def with_global_blocks(branch: ViTConfig) -> ViTConfig:
    """The same branch, with global attention in one block of three.

    So many have it officially, by the published FLOPs; which ones is taken from ViTDet (arXiv 2203.16527): the last of
    each part of the network.
    """
    windows = tuple(window if (block + 1) % 3 else None for block, window in enumerate(branch.windows))
    return replace(branch, window_size=windows)


def in_stages(branch: ViTConfig, num_stages: int) -> ViTConfig:
    """The same branch, with another number of interactions."""
    return replace(branch, stages=even_stages(branch.depth, num_stages))


def pyramid(*branches: AnyBranchConfig, fast: bool = False) -> PyramidConfig:
    """A pyramid of these branches.

    Args:
        branches: from branch 1 on; one that stands alone has no interactions.
        fast: neither project nor normalise the features that are exchanged, as in the official configurations that are
            named "speedup", and in LH6B.
    """
    if len(branches) == 1:
        return PyramidConfig(branches=branches, interaction=InteractionConfig(edges=()))
    interaction = InteractionConfig(drop_path=0.4, projection=not fast, norm=not fast)
    return PyramidConfig(branches=branches, interaction=interaction)
