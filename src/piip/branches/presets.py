"""The usual sizes of vision transformer and ConvNeXt."""

from typing import Literal

from piip.branches.base import even_stages
from piip.branches.convnext import ConvNeXtConfig
from piip.branches.vit import ViTConfig
from piip.checks import check_count

ViTSize = Literal["tiny", "small", "base", "large", "huge"]
ConvNeXtSize = Literal["tiny", "small", "base", "large"]

_SIZES: dict[ViTSize, tuple[int, int, int]] = {  # depth, width, heads
    "tiny": (12, 192, 3),
    "small": (12, 384, 6),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
    "huge": (32, 1280, 16),
}

CONVNEXT_SIZES: dict[ConvNeXtSize, tuple[tuple[int, ...], tuple[int, ...]]] = {  # depths, widths
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
}


def vit(
    size: ViTSize,
    *,
    image_size: int,
    num_stages: int = 12,
    patch_size: int = 16,
    class_token: bool = True,
    layer_scale: float | None = None,
    drop_path: float = 0.0,
) -> ViTConfig:
    """A ViT-T, S, B, L or H; `dataclasses.replace` changes what is not a parameter here.

    Args:
        size: which one.
        image_size: side of the square image that the branch sees, in pixels.
        num_stages: stages that the blocks are split into, evenly; all branches of a pyramid need the same number.
        patch_size: side of a patch, in pixels.
        class_token: whether it has a class token.
        layer_scale: initial value of the layer scales; None for none.
        drop_path: probability of skipping a residual path in training.

    Raises:
        ValueError: for a size that there is not, or more stages than blocks.
    """
    if size not in _SIZES:
        raise ValueError(f"size: {size!r} is none of {', '.join(_SIZES)}")
    depth, embed_dim, num_heads = _SIZES[size]
    return ViTConfig(
        image_size=image_size,
        depth=depth,
        embed_dim=embed_dim,
        num_heads=num_heads,
        stages=even_stages(depth, num_stages),
        patch_size=patch_size,
        class_token=class_token,
        layer_scale=layer_scale,
        drop_path=drop_path,
    )


def convnext(size: ConvNeXtSize, *, image_size: int, num_stages: int = 12, drop_path: float = 0.0) -> ConvNeXtConfig:
    """A ConvNeXt-T, S, B or L.

    Its first, second and last width are a stage each, as in the official pyramids; the blocks of the third are split
    into the remaining stages, evenly. With `num_stages=4`, a stage is a width.

    Args:
        size: which one.
        image_size: side of the square image that the branch sees, in pixels.
        num_stages: stages; all branches of a pyramid need the same number.
        drop_path: probability of skipping a residual path in training.

    Raises:
        ValueError: for a size that there is not, fewer than four stages, or more than the blocks are enough for.
    """
    if size not in CONVNEXT_SIZES:
        raise ValueError(f"size: {size!r} is none of {', '.join(CONVNEXT_SIZES)}")
    depths, widths = CONVNEXT_SIZES[size]
    first, second, third, last = depths
    num_stages = check_count("num_stages", num_stages, least=len(depths))
    if num_stages > third + 3:
        raise ValueError(f"num_stages: a ConvNeXt of {depths} blocks has at most {third + 3} stages, got {num_stages}")
    downsampling, *others = even_stages(third, num_stages - 3)
    return ConvNeXtConfig(
        image_size=image_size,
        stages=(first, 1 + second, 1 + downsampling, *others, 1 + last),
        depths=depths,
        widths=widths,
        drop_path=drop_path,
    )
