"""The backbone of the models for the generated shapes, which learn in minutes on a CPU."""

from piip.branches import ViTConfig
from piip.pyramid import BackboneConfig, InteractionConfig, PyramidConfig, simple_pyramid


def shapes_backbone(*scales: float) -> BackboneConfig:
    """Three tiny branches, and maps of these scales of the last one, which has cells of 8 pixels."""
    branches = (_branch(64, 128), _branch(96, 96), _branch(192, 64))
    pyramid = PyramidConfig(branches=branches, interaction=InteractionConfig(num_heads=4))
    return BackboneConfig(pyramid=pyramid, levels=simple_pyramid(*scales))


def _branch(image_size: int, embed_dim: int) -> ViTConfig:
    return ViTConfig(
        image_size=image_size,
        depth=2,
        embed_dim=embed_dim,
        num_heads=embed_dim // 32,
        stages=(1, 1),
        patch_size=8,
        class_token=False,
    )
