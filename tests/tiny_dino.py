"""A DINO that builds in milliseconds."""

from typing import Any

from piip.pyramid import BackboneConfig, simple_pyramid
from piip.tasks.detection.dino import DINOConfig, TransformerConfig
from tiny_models import tiny_pyramid, tiny_vit


def tiny_dino(**changes: Any) -> DINOConfig:
    """Two branches on images of 64 and 96 pixels, two maps and one made of them, three classes."""
    branches = [tiny_vit(image_size=size, embed_dim=32, class_token=False) for size in (64, 96)]
    settings: dict[str, Any] = {
        "backbone": BackboneConfig(pyramid=tiny_pyramid(*branches), levels=simple_pyramid(2, 1)),
        "num_classes": 3,
        "num_queries": 20,
        "transformer": TransformerConfig(
            embed_dim=64, num_levels=3, num_heads=4, mlp_dim=64, encoder_layers=1, decoder_layers=2
        ),
    }
    return DINOConfig(**settings | changes)
