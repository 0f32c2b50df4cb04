"""The named DINOs."""

from piip.branches import ViTConfig
from piip.pyramid import BackboneConfig, InteractionConfig, PyramidConfig, simple_pyramid
from piip.tasks.detection.augmentation import DetectionPreprocessConfig
from piip.tasks.detection.dino import DINOConfig, TransformerConfig
from piip.zoo.cards.card import ModelCard


def _demo() -> DINOConfig:
    """Three tiny branches and a small transformer, for the generated shapes."""

    def branch(image_size: int, embed_dim: int) -> ViTConfig:
        return ViTConfig(
            image_size=image_size,
            depth=2,
            embed_dim=embed_dim,
            num_heads=embed_dim // 32,
            stages=(1, 1),
            patch_size=8,
            class_token=False,
        )

    pyramid = PyramidConfig(
        branches=(branch(64, 128), branch(96, 96), branch(192, 64)), interaction=InteractionConfig(num_heads=4)
    )
    return DINOConfig(
        backbone=BackboneConfig(pyramid=pyramid, levels=simple_pyramid(1, 0.5)),
        num_classes=6,
        num_queries=60,
        transformer=TransformerConfig(embed_dim=128, num_levels=3, mlp_dim=256, encoder_layers=2, decoder_layers=3),
        max_detections=100,
        preprocess=DetectionPreprocessConfig(scale=(192, 192)),
    )


CARDS = (
    ModelCard(
        name="dino_demo_shapes_192-96-64",
        task="detection",
        summary="tiny ViTs 64, 96, 192",
        config=_demo,
    ),
)
