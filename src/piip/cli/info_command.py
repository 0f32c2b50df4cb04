"""`piip info`: what a model is made of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from piip.cli.console import check_json, output, parse, write_json
from piip.cli.tasks import find_task
from piip.config import to_dict
from piip.zoo.load import find_config


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Show what a model is made of."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Name of a model (see piip models), or a folder with config.json."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the configuration as JSON to this file; - for standard output."""


def run(arguments: list[str]) -> int:
    """Show the branches of a model and what comes after them, with their parameters."""
    options = parse(Arguments, "info", arguments)
    config = find_config(options.model)
    if options.json is not None:
        check_json(options.json)
        write_json(to_dict(config), options.json)
        return 0
    with torch.device("meta"):
        model = config.build()
    output.print(options.model, style="bold", markup=False)
    for table in find_task(config).part_tables(config, model):
        output.print(table)
    return 0
