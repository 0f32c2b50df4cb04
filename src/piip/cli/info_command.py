"""`piip info`: what a model is made of, and what it costs."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from piip.cli.card_table import card_table
from piip.cli.console import check_json, output, parse, read_size, write_json
from piip.cli.cost_table import cost_note, cost_table, memory_note, memory_table
from piip.cli.tasks import find_task
from piip.config import to_dict
from piip.costs import cost
from piip.precision import Precision
from piip.zoo.cards import find_card
from piip.zoo.load import find_config, is_saved

_SIZE_HINT = "(default: the model's)"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Show what a model is made of, and what it costs."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Name of a model (see piip models), or a folder with config.json."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the configuration as JSON to this file; - for standard output."""
    size: Annotated[tuple[int, ...], tyro.conf.arg(metavar="PIXELS", help_behavior_hint=_SIZE_HINT)] = ()
    """Image that the cost is for: its side, or its height and width."""
    cost_json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the cost of each part as JSON to this file; - for standard output."""
    gpu: Annotated[float | None, tyro.conf.arg(metavar="GIB")] = None
    """Say how many images fit on a GPU with so much memory, in training and out of it; takes some seconds."""
    precision: Precision = "fp32"
    """With --gpu: the arithmetic that it is said for, as --training.precision of piip train has it."""


def run(arguments: list[str]) -> int:
    """Show the branches of a model and what comes after them, with their parameters and operations.

    Raises:
        ValueError: for an image of more than two sides, a GPU without memory, a precision without a GPU, two results
            in one file, or an option that the results which were asked for have no place for.
    """
    options = parse(Arguments, "info", arguments)
    config, size = find_config(options.model), read_size(options.size)
    _check(options)
    if options.json is not None and options.cost_json is None:
        write_json(to_dict(config), options.json)
        return 0
    counted = cost(config, size)
    if options.cost_json is not None:
        if options.json is not None:
            write_json(to_dict(config), options.json)
        write_json(counted, options.cost_json)
        return 0
    with torch.device("meta"):
        model = config.build()
    output.print(options.model, style="bold", markup=False, soft_wrap=True)
    if not is_saved(options.model):
        output.print(card_table(find_card(options.model)))
    for table in find_task(config).part_tables(config, model):
        output.print(table)
    output.print(cost_table(counted))
    output.print(cost_note(counted), style="dim")
    if options.gpu is not None:
        output.print(memory_table(config, options.gpu, counted.image_size, options.precision))
        output.print(memory_note(options.precision), style="dim")
    return 0


def _check(options: Arguments) -> None:
    if options.gpu is not None and not 0 < options.gpu < math.inf:
        raise ValueError(f"--gpu: expected more than 0 GiB, got {options.gpu:g}")
    if options.precision != "fp32" and options.gpu is None:
        raise ValueError(f"--precision: {options.precision} is of the memory that --gpu asks for; give --gpu too")
    if options.gpu is not None and (options.json or options.cost_json):
        raise ValueError("--gpu: what fits is in the tables alone; leave out --json and --cost-json to see them")
    if options.size and options.json and not options.cost_json:
        raise ValueError("--size: the configuration does not depend on it; add --cost-json, or leave it out")
    if options.json is not None and options.json == options.cost_json:
        raise ValueError(f"--cost-json: {options.json} is what --json is written to; name another file")
    check_json(options.json)
    check_json(options.cost_json, "--cost-json")
