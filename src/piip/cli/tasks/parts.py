"""What the tables of `piip info` have in common."""

from collections.abc import Sequence
from itertools import groupby

from rich.table import Column, Table
from torch import nn

from piip.branches import AnyBranchConfig
from piip.branches.transformer import TransformerConfig
from piip.pyramid import BackboneConfig, Pyramid, PyramidConfig


def branch_table(config: PyramidConfig, pyramid: Pyramid) -> Table:
    """The branches of a pyramid."""
    narrow = [Column(name, no_wrap=True) for name in ("branch", "image", "stride", "width")]
    table = Table(*narrow, "windows", "stages\nx blocks", Column("params", no_wrap=True))
    for number, branch in enumerate(config.branches, 1):
        table.add_row(
            f"{number} {type(branch).__name__.removesuffix('Config')}",
            str(branch.image_size),
            _range(branch.strides),
            _range(branch.channels),
            _windows(branch),
            " ".join(f"{len(list(stages))}x{blocks}" for blocks, stages in groupby(branch.stages)),
            millions(pyramid.branches[number - 1]),
        )
    return table


def input_row(prepared: str, mean: Sequence[float], std: Sequence[float]) -> tuple[str, str, str]:
    """How images are prepared: name, description, and no parameters."""
    return "input", f"{prepared}; mean {_channels(mean)}; std {_channels(std)}", ""


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
    chosen = config.merging.branches
    which = "all branches" if chosen is None else f"branch {', '.join(map(str, chosen))}"
    return f"of {which}; after stage {', '.join(str(stage + 1) for stage in sorted(set(config.stages)))}"


def levels(config: BackboneConfig) -> str:
    """Strides and widths of the maps of a backbone."""
    strides, widths = (", ".join(map(str, values)) for values in (config.strides, config.channels))
    return f"strides {strides}; {widths} channels"


def millions(module: nn.Module) -> str:
    """How many parameters a module has."""
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.2f}M"


def _range(values: tuple[int, ...]) -> str:
    return str(values[0]) if values[0] == values[-1] else f"{values[0]}-{values[-1]}"


def _windows(branch: AnyBranchConfig) -> str:
    """The sides of a branch's windows, in tokens, and how many blocks have none."""
    windows = branch.windows if isinstance(branch, TransformerConfig) else ()
    sizes = sorted({size for size in windows if size is not None})
    num_global = windows.count(None)
    if not sizes:
        return "none"
    return "/".join(map(str, sizes)) + (f", {num_global} of {len(windows)} global" if num_global else "")


def _channels(values: Sequence[float]) -> str:
    """A number for each channel, or the one that is that of all."""
    return ", ".join(f"{value:g}" for value in (values[:1] if len(set(values)) == 1 else values))
