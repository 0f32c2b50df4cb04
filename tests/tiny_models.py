"""Small configurations that build in milliseconds, and weights that leave nothing at zero."""

from typing import Any, TypeVar

import torch
from torch import nn

from piip.branches import ViTConfig
from piip.pyramid import InteractionConfig, PyramidConfig

Module = TypeVar("Module", bound=nn.Module)


def tiny_vit(**changes: Any) -> ViTConfig:
    """A ViT of two blocks in two stages, on images of 32 pixels, with patches of 16."""
    settings: dict[str, Any] = {"image_size": 32, "depth": 2, "embed_dim": 32, "num_heads": 2, "stages": (1, 1)}
    return ViTConfig(**settings | changes)


def tiny_pyramid(*branches: ViTConfig, **interaction: Any) -> PyramidConfig:
    """A pyramid of these branches, or of widths 64 and 32 on images of 32 and 48 pixels."""
    settings: dict[str, Any] = {"num_heads": 4, "num_points": 2} | interaction
    return PyramidConfig(
        branches=branches or (tiny_vit(embed_dim=64), tiny_vit(image_size=48)),
        interaction=InteractionConfig(**settings),
    )


@torch.no_grad()
def randomised(module: Module, seed: int = 0) -> Module:
    """The module with noise on all parameters, so that zero-initialised scales let everything through."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal noise."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
