"""The PIIP network: branches, interactions between them, and merging."""

from piip.pyramid.interaction import InteractionConfig
from piip.pyramid.merging import LinearMergingConfig
from piip.pyramid.network import Pyramid, PyramidConfig

__all__ = ["InteractionConfig", "LinearMergingConfig", "Pyramid", "PyramidConfig"]
