"""The architectures that a branch of a pyramid can have."""

from piip.branches.base import Branch, BranchConfig, Tokens, even_stages
from piip.branches.vit import ViT, ViTConfig

AnyBranchConfig = ViTConfig  # the union of all of them: what a stored configuration may hold

__all__ = ["AnyBranchConfig", "Branch", "BranchConfig", "Tokens", "ViT", "ViTConfig", "even_stages"]
