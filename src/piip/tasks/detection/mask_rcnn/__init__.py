"""Mask R-CNN (arXiv 1703.06870): the model, its configuration, and its parts."""

from piip.tasks.detection.mask_rcnn.anchors import AnchorConfig
from piip.tasks.detection.mask_rcnn.box_coder import BoxCoder
from piip.tasks.detection.mask_rcnn.box_head import BoxHead, BoxHeadConfig
from piip.tasks.detection.mask_rcnn.fpn import FPN, FPNConfig
from piip.tasks.detection.mask_rcnn.mask_head import MaskHead, MaskHeadConfig
from piip.tasks.detection.mask_rcnn.matching import MatcherConfig
from piip.tasks.detection.mask_rcnn.model import MaskRCNN, MaskRCNNConfig
from piip.tasks.detection.mask_rcnn.rpn import RPN, ProposalConfig, RPNConfig
from piip.tasks.detection.mask_rcnn.sampling import SamplerConfig

__all__ = [
    "FPN",
    "RPN",
    "AnchorConfig",
    "BoxCoder",
    "BoxHead",
    "BoxHeadConfig",
    "FPNConfig",
    "MaskHead",
    "MaskHeadConfig",
    "MaskRCNN",
    "MaskRCNNConfig",
    "MatcherConfig",
    "ProposalConfig",
    "RPNConfig",
    "SamplerConfig",
]
