"""The named detectors."""

from piip.tasks.detection.augmentation import DetectionPreprocessConfig
from piip.tasks.detection.mask_rcnn.anchors import AnchorConfig
from piip.tasks.detection.mask_rcnn.box_head import BoxHeadConfig
from piip.tasks.detection.mask_rcnn.fpn import FPNConfig
from piip.tasks.detection.mask_rcnn.mask_head import MaskHeadConfig
from piip.tasks.detection.mask_rcnn.model import MaskRCNNConfig
from piip.tasks.detection.mask_rcnn.rpn import ProposalConfig, RPNConfig
from piip.tasks.detection.mask_rcnn.sampling import SamplerConfig
from piip.zoo.cards import mask_rcnn, mixed, paper
from piip.zoo.cards.card import ModelCard
from piip.zoo.cards.demo import shapes_backbone


def _demo() -> MaskRCNNConfig:
    """Small heads on three tiny branches, for the generated shapes: it learns in minutes on a CPU."""
    return MaskRCNNConfig(
        backbone=shapes_backbone(2, 1, 0.5),
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
    *mask_rcnn.CARDS,
    *mixed.CARDS,
    *paper.CARDS,
    ModelCard(
        name="mask_rcnn_demo_shapes_192-96-64",
        task="detection",
        summary="tiny ViTs 64, 96, 192",
        config=_demo,
        released=False,
    ),
)
