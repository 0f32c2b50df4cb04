"""The named detectors."""

from dataclasses import replace

from piip.branches import ViTConfig
from piip.branches.presets import ViTSize, vit
from piip.pyramid import BackboneConfig, InteractionConfig, PyramidConfig, simple_pyramid
from piip.tasks.detection.augmentation import DetectionPreprocessConfig
from piip.tasks.detection.coco_classes import COCO_CLASSES
from piip.tasks.detection.mask_rcnn.anchors import AnchorConfig
from piip.tasks.detection.mask_rcnn.box_head import BoxHeadConfig
from piip.tasks.detection.mask_rcnn.fpn import FPNConfig
from piip.tasks.detection.mask_rcnn.mask_head import MaskHeadConfig
from piip.tasks.detection.mask_rcnn.model import MaskRCNNConfig
from piip.tasks.detection.mask_rcnn.rpn import ProposalConfig, RPNConfig
from piip.tasks.detection.mask_rcnn.sampling import SamplerConfig
from piip.zoo.cards.card import ModelCard, PublishedScore

_HALF = (0.5, 0.5, 0.5)  # mean and deviation of the official DeiT configurations


def _deit(size: ViTSize, image_size: int, drop_path: float) -> ViTConfig:
    """A DeiT with windows of 14 tokens in all blocks, and the positions of 224 pixels."""
    branch = vit(size, image_size=image_size, class_token=False, layer_scale=1.0, drop_path=drop_path)
    return replace(branch, window_size=14, pos_embed_size=224)


def _tsb(base: int, small: int, tiny: int) -> MaskRCNNConfig:
    branches = (_deit("base", base, 0.15), _deit("small", small, 0.05), _deit("tiny", tiny, 0.05))
    pyramid = PyramidConfig(branches=branches, interaction=InteractionConfig(drop_path=0.4))
    return MaskRCNNConfig(
        backbone=BackboneConfig(pyramid=pyramid),
        class_names=COCO_CLASSES,
        preprocess=DetectionPreprocessConfig(
            scale=(tiny, int(tiny * 0.6 + 0.5)), mean=_HALF, std=_HALF, size_divisor=224
        ),
    )


def _tsb_card(base: int, small: int, tiny: int, published: PublishedScore) -> ModelCard:
    return ModelCard(
        name=f"mask_rcnn_deit_tsb_{tiny}_{small}_{base}_fpn_1x_coco_bs16",
        task="detection",
        summary=f"DeiT B {base}, S {small}, T {tiny}",
        config=lambda: _tsb(base, small, tiny),
        recipe="vit-1x",
        pretraining=("DeiT III-B", "DeiT III-S", "DeiT-T"),
        published=published,
    )


def demo_pyramid() -> PyramidConfig:
    """Three tiny branches."""

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

    return PyramidConfig(
        branches=(branch(64, 128), branch(96, 96), branch(192, 64)), interaction=InteractionConfig(num_heads=4)
    )


def _demo() -> MaskRCNNConfig:
    """Tiny branches and small heads, for the generated shapes: it learns in minutes on a CPU."""
    return MaskRCNNConfig(
        backbone=BackboneConfig(pyramid=demo_pyramid(), levels=simple_pyramid(2, 1, 0.5)),
        num_classes=6,
        fpn=FPNConfig(channels=64, num_levels=4),
        rpn=RPNConfig(
            anchors=AnchorConfig(scales=(6.0,)),
            training_proposals=ProposalConfig(per_level=200, count=200),
            proposals=ProposalConfig(per_level=200, count=100),
        ),
        box_head=BoxHeadConfig(hidden_dim=256, sampler=SamplerConfig(count=64, positive_fraction=0.25)),
        mask_head=MaskHeadConfig(channels=64, num_convs=2),
        preprocess=DetectionPreprocessConfig(scale=(192, 192)),
    )


CARDS = (
    _tsb_card(448, 896, 1120, PublishedScore(scores={"box_ap": 43.9, "mask_ap": 38.6}, params=146, flops=243)),
    _tsb_card(448, 896, 1568, PublishedScore(scores={"box_ap": 45.0, "mask_ap": 40.2}, params=147, flops=287)),
    _tsb_card(672, 1120, 1568, PublishedScore(scores={"box_ap": 46.6, "mask_ap": 41.4}, params=149, flops=453)),
    ModelCard(
        name="mask_rcnn_demo_shapes_192-96-64",
        task="detection",
        summary="tiny ViTs 64, 96, 192",
        config=_demo,
    ),
)
