"""The named DINOs."""

from piip.pyramid import BackboneConfig, simple_pyramid
from piip.tasks.detection.augmentation import DetectionPreprocessConfig
from piip.tasks.detection.dino import DINOConfig, TransformerConfig
from piip.zoo.cards.card import ModelCard
from piip.zoo.cards.detection import demo_pyramid


def _demo() -> DINOConfig:
    """Tiny branches and a small transformer, for the generated shapes."""
    return DINOConfig(
        backbone=BackboneConfig(pyramid=demo_pyramid(), levels=simple_pyramid(1, 0.5)),
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
