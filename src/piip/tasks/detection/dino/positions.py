"""Positions as sines and cosines, of cells and of boxes (DETR, arXiv 2005.12872; DAB-DETR, arXiv 2201.12329)."""

import math

import torch
from torch import Tensor

_CELL_TEMPERATURE = 20.0
_BOX_TEMPERATURE = 10_000.0


def sine_embedding(positions: Tensor, dim: int, temperature: float) -> Tensor:
    """Embed each number, sines and cosines in turn.

    Args:
        positions: (...), in units of the longest period.
        dim: numbers in an embedding.
        temperature: how many times the longest period is longer than a shortest one.

    Returns:
        (..., dim), float32.
    """
    exponents = 2 * torch.arange(dim // 2, dtype=torch.float32, device=positions.device) / dim
    angles = (positions.float() * (2 * math.pi)).unsqueeze(-1) / temperature**exponents
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


def box_embedding(boxes: Tensor, dim: int) -> Tensor:
    """Embed boxes (..., 4), as centre x, centre y, width, height in units of the map: (..., 4 * dim), y before x."""
    x, y, width, height = boxes.unbind(-1)
    return sine_embedding(torch.stack((y, x, width, height), dim=-1), dim, _BOX_TEMPERATURE).flatten(-2)


def cell_embedding(extents: Tensor, height: int, width: int, dim: int) -> Tensor:
    """Embed where each cell of a map is in its image, y before x.

    Args:
        extents: cells that the image fills along x and y, (B, 2); the others are padding.
        height: of the map, in cells.
        width: likewise.
        dim: numbers in an embedding.

    Returns:
        (B, height, width, dim).
    """
    x, is_image_x = _along_axis(extents[:, 0], width, dim // 2)
    y, is_image_y = _along_axis(extents[:, 1], height, dim // 2)
    # A column of padding has no first cell to count from, and so no height: all of its cells are at 0.
    zero = sine_embedding(extents.new_zeros(()), dim // 2, _CELL_TEMPERATURE)
    y = torch.where(is_image_x[:, None, :, None], y[:, :, None], zero)
    x = torch.where(is_image_y[:, :, None, None], x[:, None], zero)
    return torch.cat((y, x), dim=-1)


def _along_axis(extents: Tensor, length: int, dim: int) -> tuple[Tensor, Tensor]:
    """The embeddings (B, length, dim) of cells along an axis, and whether they are in the image (B, length)."""
    extents = extents[:, None]
    number = torch.arange(1, length + 1, dtype=torch.float32, device=extents.device)
    position = number.minimum(extents) / (extents + 1e-6)
    return sine_embedding(position, dim, _CELL_TEMPERATURE), number <= extents
