"""Compatibility with the official release: its constructor dicts and its checkpoints."""

from piip.zoo.official.build import build_model, model_config
from piip.zoo.official.convert import ConversionError, convert_state_dict, official_state_dict

__all__ = ["ConversionError", "build_model", "convert_state_dict", "model_config", "official_state_dict"]
