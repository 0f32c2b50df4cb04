"""The official release: its models from its constructors' arguments, and its weights into ours and back."""

from piip.zoo.official import build_model, convert_state_dict, official_state_dict

__all__ = ["build_model", "convert_state_dict", "official_state_dict"]
