"""The official release: its models from its constructors' arguments, and its weights into ours and back."""

from piip.zoo.official import ConversionError, build_model, convert_state_dict, model_config, official_state_dict

__all__ = ["ConversionError", "build_model", "convert_state_dict", "model_config", "official_state_dict"]
