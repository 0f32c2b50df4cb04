"""Parameter-Inverted Image Pyramid Networks (arXiv 2406.04330)."""

from piip import official
from piip.batches import ImageBatch
from piip.branches import BEiTConfig, ConvNeXtConfig, UniPerceiverConfig, ViTConfig, even_stages
from piip.branches.presets import convnext, vit
from piip.costs import Cost, cost
from piip.pyramid import (
    Backbone,
    BackboneConfig,
    ConvMergingConfig,
    InteractionConfig,
    LevelConfig,
    LinearMergingConfig,
    Pyramid,
    PyramidConfig,
    simple_pyramid,
)
from piip.tasks.classification.data import PreprocessConfig
from piip.tasks.classification.heads import MergedHeadConfig, SeparateHeadsConfig
from piip.tasks.classification.model import ClassificationConfig, ClassificationModel
from piip.tasks.detection.augmentation import DetectionPreprocessConfig
from piip.tasks.detection.dino import DINO, DINOConfig
from piip.tasks.detection.mask_rcnn import MaskRCNN, MaskRCNNConfig
from piip.tasks.segmentation.augmentation import SegmentationPreprocessConfig
from piip.tasks.segmentation.upernet import UperNet, UperNetConfig
from piip.zoo.cards import list_models
from piip.zoo.load import create_model

__version__ = "0.1.0"

__all__ = [
    "DINO",
    "BEiTConfig",
    "Backbone",
    "BackboneConfig",
    "ClassificationConfig",
    "ClassificationModel",
    "ConvMergingConfig",
    "ConvNeXtConfig",
    "Cost",
    "DINOConfig",
    "DetectionPreprocessConfig",
    "ImageBatch",
    "InteractionConfig",
    "LevelConfig",
    "LinearMergingConfig",
    "MaskRCNN",
    "MaskRCNNConfig",
    "MergedHeadConfig",
    "PreprocessConfig",
    "Pyramid",
    "PyramidConfig",
    "SegmentationPreprocessConfig",
    "SeparateHeadsConfig",
    "UniPerceiverConfig",
    "UperNet",
    "UperNetConfig",
    "ViTConfig",
    "convnext",
    "cost",
    "create_model",
    "even_stages",
    "list_models",
    "official",
    "simple_pyramid",
    "vit",
]
