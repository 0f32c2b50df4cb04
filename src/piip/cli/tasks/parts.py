"""What the tables of `piip info` have in common."""

from rich.table import Table
from torch import nn

from piip.pyramid import BackboneConfig, Pyramid, PyramidConfig


def branch_table(config: PyramidConfig, pyramid: Pyramid) -> Table:
    """The branches of a pyramid."""
    table = Table("branch", "kind", "image", "stride", "width", "blocks in each stage", "params")
    for number, branch in enumerate(config.branches, 1):
        kind = type(branch).__name__.removesuffix("Config")
        stride, width = _range(branch.strides), _range(branch.channels)
        stages = " ".join(map(str, branch.stages))
        params = millions(pyramid.branches[number - 1])
        table.add_row(str(number), kind, str(branch.image_size), stride, width, stages, params)
    return table


def interaction_row(config: PyramidConfig, pyramid: Pyramid) -> tuple[str, str, str]:
    """The interactions of a pyramid: name, description and parameters."""
    interaction = config.interaction
    edges = interaction.edges_between(len(config.branches))
    arrows = ", ".join(f"{source}→{query}" for query, source in edges) or "none"
    turns = "" if interaction.turns == 1 else f", in {interaction.turns} turns"
    what = (
        f"after each of {len(pyramid.interactions)} stages: {arrows}{turns}; {interaction.attention}, "
        f"{interaction.num_heads} heads"
    )
    return "interactions", what, millions(pyramid.interactions)


def merging(config: BackboneConfig) -> str:
    """Of which branches the maps of a backbone are made, and where."""
    if config.merging is None:
        return "none: one branch"
    stages = sorted(set(config.stages))
    return "of the branches, after stage " + ", ".join(str(stage + 1) for stage in stages)


def levels(config: BackboneConfig) -> str:
    """Strides and widths of the maps of a backbone."""
    strides, widths = (", ".join(map(str, values)) for values in (config.strides, config.channels))
    return f"strides {strides}; {widths} channels"


def millions(module: nn.Module) -> str:
    """How many parameters a module has."""
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.2f}M"


def _range(values: tuple[int, ...]) -> str:
    return str(values[0]) if values[0] == values[-1] else f"{values[0]}-{values[-1]}"
