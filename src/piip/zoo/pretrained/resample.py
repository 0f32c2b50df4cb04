"""Position embeddings and patch kernels at other sizes, resampled as the official loaders do."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from piip.branches import ViTConfig
from piip.branches.positions import resample_grid
from piip.weights import WeightsError


def fit_pos_embed(pos_embed: Tensor, config: ViTConfig) -> tuple[Tensor, str]:
    """Fit a position embedding to a branch: to its grid, and to whether it has a row for the class token.

    Args:
        pos_embed: (1, rows, C), for a square grid; one row more than a square means that the first is the class
            token's.
        config: of the branch.

    Returns:
        The embedding, and what was done to it in words; nothing was if they are empty.

    Raises:
        WeightsError: when the rows are no square grid, or lack the row for the class token that the branch wants.
    """
    if pos_embed.dim() != 3 or len(pos_embed) != 1:
        raise WeightsError(f"pos_embed: expected the shape (1, rows, width), got {tuple(pos_embed.shape)}")
    rows, wanted = pos_embed.shape[1], config.pos_embed_grid
    side = math.isqrt(rows)
    class_row = rows - side**2  # 0 or 1; no two squares but 0 and 1 are neighbours
    if not side or class_row > 1:
        raise WeightsError(f"pos_embed: {rows} rows are not a square grid, with or without a row for a class token")
    keep = config.class_pos_embed != "none"
    if keep and not class_row:
        raise WeightsError(
            f"pos_embed: has no row for the class token, but the branch has class_pos_embed "
            f"{config.class_pos_embed!r}; set it to 'none'"
        )
    prefix, grid = pos_embed[:, :class_row], pos_embed[:, class_row:]
    done = ["class row dropped"] if class_row and not keep else []
    if side != wanted:
        grid = resample_grid(grid.unflatten(1, (side, side)), wanted, wanted).flatten(1, 2)
        done.append(f"grid {side}x{side} resampled to {wanted}x{wanted}")
    return (torch.cat([prefix, grid], dim=1) if keep else grid), ", ".join(done)


def fit_patch_kernel(kernel: Tensor, patch_size: int) -> tuple[Tensor, str]:
    """Resample the kernel (D, channels, k, k) of a patch embedding, without rescaling its sum; returns as above."""
    if kernel.dim() != 4 or kernel.shape[2:] == (patch_size, patch_size):
        return kernel, ""
    height, width = kernel.shape[2:]
    resampled = F.interpolate(kernel.float(), (patch_size, patch_size), mode="bicubic", align_corners=False)
    return resampled, f"kernel {height}x{width} resampled to {patch_size}x{patch_size}"
