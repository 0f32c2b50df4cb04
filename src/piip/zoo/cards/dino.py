"""The named DINOs."""

from piip.pyramid import BackboneConfig, PyramidConfig, simple_pyramid
from piip.tasks.detection.augmentation import DetectionPreprocessConfig
from piip.tasks.detection.coco_classes import COCO_CLASSES
from piip.tasks.detection.dino import DINOConfig, TransformerConfig
from piip.zoo.cards.branches import augreg, deit, internvit_6b, pyramid, with_global_blocks
from piip.zoo.cards.card import GLOBAL_BLOCKS, MAE_NOTICE, ModelCard, PublishedScore
from piip.zoo.cards.demo import shapes_backbone
from piip.zoo.cards.mask_rcnn import lh6b_pyramid, prepare


def _dino(pyramid_config: PyramidConfig, preprocess: DetectionPreprocessConfig) -> DINOConfig:
    """Three maps made of the last one; the neck makes a fourth."""
    backbone = BackboneConfig(pyramid=pyramid_config, levels=simple_pyramid(2, 1, 0.5))
    return DINOConfig(backbone=backbone, class_names=COCO_CLASSES, preprocess=preprocess)


def _sbl() -> DINOConfig:
    branches = deit("large", 672, 24, 384), deit("base", 1120, 24, 384), deit("small", 1792, 24, 384)
    windowed = pyramid(*(with_global_blocks(branch) for branch in branches))
    return _dino(windowed, DetectionPreprocessConfig(scale=(2332, 1400), size_divisor=224))


def _h6b() -> DINOConfig:
    return _dino(pyramid(internvit_6b(768), augreg("huge", 1024, None, 224)), prepare((1333, 800), 64))


def _demo() -> DINOConfig:
    """Tiny branches and a small transformer, for the generated shapes."""
    return DINOConfig(
        backbone=shapes_backbone(1, 0.5),
        num_classes=6,
        num_queries=60,
        transformer=TransformerConfig(embed_dim=128, num_levels=3, mlp_dim=256, encoder_layers=2, decoder_layers=3),
        max_detections=100,
        preprocess=DetectionPreprocessConfig(scale=(192, 192)),
    )


CARDS = (
    ModelCard(
        name="dino_4scale_deit_384_sbl_1792_1120_672_fpn_3x_coco_bs32_ms",
        task="detection",
        summary="DeiT L 672, B 1120, S 1792",
        config=_sbl,
        recipe="dino-3x",
        pretraining=("DeiT III-L 384", "DeiT III-B 384", "DeiT III-S 384"),
        published=PublishedScore(scores={"box_ap": 57.8}, params=None, flops=None),
        assumed=GLOBAL_BLOCKS,
    ),
    ModelCard(
        name="dino_4scale_internvit_h6b_1024_768_fpn_1x_coco_bs32_ms",
        task="detection",
        summary="InternViT 6B 768, MAE H 1024",
        config=_h6b,
        recipe="dino-1x",
        pretraining=("InternViT-6B", "MAE ViT-H"),
        published=PublishedScore(scores={"box_ap": 60.0}, params=None, flops=None),
        weights_notice=MAE_NOTICE,
    ),
    ModelCard(
        name="dino_4scale_internvit_lh6b_1536_1024_512_fpn_2x_coco_bs32_ms",
        task="detection",
        summary="InternViT 6B 512, MAE H 1024, DeiT L 1536",
        config=lambda: _dino(lh6b_pyramid(), prepare((1999, 1200), 64)),
        recipe="dino-2x",
        pretraining=("InternViT-6B", "MAE ViT-H", "DeiT III-L 384"),
        weights_notice=MAE_NOTICE,
    ),
    ModelCard(
        name="dino_demo_shapes_192-96-64",
        task="detection",
        summary="tiny ViTs 64, 96, 192",
        config=_demo,
        released=False,
    ),
)
