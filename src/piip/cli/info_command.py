"""`piip info`: what a model is made of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.table import Table
from torch import nn

from piip.cli.console import check_json, output, parse, write_json
from piip.config import to_dict
from piip.tasks.classification.model import ClassificationConfig, ClassificationModel
from piip.zoo.load import find_config


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Show what a model is made of."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Name of a model (see piip models), or a folder with config.json."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the configuration as JSON to this file; - for standard output."""


def run(arguments: list[str]) -> int:
    """Show the branches, interactions and head of a model, and their parameters."""
    options = parse(Arguments, "info", arguments)
    config = find_config(options.model)
    if options.json is not None:
        check_json(options.json)
        write_json(to_dict(config), options.json)
        return 0
    with torch.device("meta"):
        model = config.build()
    output.print(options.model, style="bold", markup=False)
    output.print(_branch_table(config, model))
    output.print(_parts_table(config, model))
    return 0


def _branch_table(config: ClassificationConfig, model: ClassificationModel) -> Table:
    table = Table("branch", "kind", "image", "stride", "width", "blocks in each stage", "params")
    for number, branch in enumerate(config.pyramid.branches, 1):
        kind = type(branch).__name__.removesuffix("Config")
        stride, width = _range(branch.strides), _range(branch.channels)
        stages = " ".join(map(str, branch.stages))
        params = _millions(model.pyramid.branches[number - 1])
        table.add_row(str(number), kind, str(branch.image_size), stride, width, stages, params)
    return table


def _range(values: tuple[int, ...]) -> str:
    return str(values[0]) if values[0] == values[-1] else f"{values[0]}-{values[-1]}"


def _parts_table(config: ClassificationConfig, model: ClassificationModel) -> Table:
    interaction, head = config.pyramid.interaction, config.head
    edges = interaction.edges_between(len(config.pyramid.branches))
    arrows = ", ".join(f"{source}→{query}" for query, source in edges) or "none"
    table = Table("part", "what", "params")
    table.add_row(
        "interactions",
        f"after each of {len(model.pyramid.interactions)} stages: {arrows}; {interaction.attention}, "
        f"{interaction.num_heads} heads",
        _millions(model.pyramid.interactions),
    )
    table.add_row(
        "head", f"{type(head).__name__.removesuffix('Config')}, {head.num_classes} classes", _millions(model.head)
    )
    table.add_row("[bold]all[/]", f"input {config.preprocess.input_size} px", f"[bold]{_millions(model)}[/]")
    return table


def _millions(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.2f}M"
