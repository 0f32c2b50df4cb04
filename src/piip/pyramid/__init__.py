"""The PIIP network: branches, interactions between them, merging, and maps for dense prediction."""

from piip.pyramid.backbone import Backbone, BackboneConfig, LevelConfig, simple_pyramid
from piip.pyramid.interaction import InteractionConfig
from piip.pyramid.merging import ConvMergingConfig, LinearMergingConfig
from piip.pyramid.network import Pyramid, PyramidConfig

__all__ = [
    "Backbone",
    "BackboneConfig",
    "ConvMergingConfig",
    "InteractionConfig",
    "LevelConfig",
    "LinearMergingConfig",
    "Pyramid",
    "PyramidConfig",
    "simple_pyramid",
]
