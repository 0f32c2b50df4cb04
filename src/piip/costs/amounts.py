"""Numbers of operations and parameters, and what they are counted of."""

from typing import NamedTuple

from torch import nn

from piip.pyramid import Pyramid


class Amount(NamedTuple):
    """What a part of a model takes: multiply-adds for one image, and parameters."""

    flops: int
    params: int


def count_parameters(*modules: nn.Module) -> int:
    """How many numbers are learned in these modules."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def pyramid_parameters(pyramid: Pyramid) -> dict[str, int]:
    """The parameters of each branch, and of the interactions."""
    branches = {f"branch {number}": count_parameters(branch) for number, branch in enumerate(pyramid.branches, 1)}
    return branches | {"interactions": count_parameters(pyramid.interactions)}
