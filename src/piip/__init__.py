"""Parameter-Inverted Image Pyramid Networks (arXiv 2406.04330)."""

from piip import official
from piip.branches import ViTConfig, even_stages
from piip.branches.presets import vit
from piip.pyramid import InteractionConfig, LinearMergingConfig, Pyramid, PyramidConfig
from piip.tasks.classification.data import PreprocessConfig
from piip.tasks.classification.heads import MergedHeadConfig, SeparateHeadsConfig
from piip.tasks.classification.model import ClassificationConfig, ClassificationModel
from piip.zoo.cards import list_models
from piip.zoo.load import load_model

__version__ = "0.1.0"

__all__ = [
    "ClassificationConfig",
    "ClassificationModel",
    "InteractionConfig",
    "LinearMergingConfig",
    "MergedHeadConfig",
    "PreprocessConfig",
    "Pyramid",
    "PyramidConfig",
    "SeparateHeadsConfig",
    "ViTConfig",
    "even_stages",
    "list_models",
    "load_model",
    "official",
    "vit",
]
