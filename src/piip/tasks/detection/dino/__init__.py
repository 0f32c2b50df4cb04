"""DINO (arXiv 2203.03605): the model, its configuration, and its parts."""

from piip.tasks.detection.dino.config import DenoisingConfig, TermWeights, TransformerConfig
from piip.tasks.detection.dino.model import DINO, DINOConfig

__all__ = ["DINO", "DINOConfig", "DenoisingConfig", "TermWeights", "TransformerConfig"]
