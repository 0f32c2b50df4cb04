"""`piip info`: what a model is made of, and what it costs."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import tyro

from piip.checks import check_count
from piip.cli.card_table import card_table
from piip.cli.console import check_json, output, parse, read_size, working, write_json
from piip.cli.cost_table import cost_note, cost_table, memory_note, memory_table
from piip.cli.tasks import find_task
from piip.config import to_dict
from piip.costs import GIB, Fit, cost, fit_on_gpu
from piip.precision import AUTOCAST, Precision
from piip.tasks.models import TaskConfig
from piip.zoo.cards import find_card
from piip.zoo.load import find_config, is_saved

_BATCH_SIZE = 8
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
    """Say what batches take and how many images fit on a GPU with so much memory, in training and out of it."""
    batch_size: Annotated[int | None, tyro.conf.arg(metavar="IMAGES", help_behavior_hint="(default: 8)")] = None
    """With --gpu: the batch that is shown beside a single image."""
    precision: Precision = "fp32"
    """With --gpu: the arithmetic that it is said for, as --training.precision of piip train has it."""


def run(arguments: list[str]) -> int:
    """Show the branches of a model and what comes after them, with their parameters and operations.

    Raises:
        ValueError: for an image of more than two sides, a GPU without memory, a precision or a batch without a GPU, two
            results in one file, or an option that the results which were asked for have no place for.
    """
    options = parse(Arguments, "info", arguments)
    config, size = find_config(options.model), read_size(options.size)
    _check(options)
    if options.json is not None and options.cost_json is None:
        write_json(to_dict(config), options.json)
        return 0
    counted = cost(config, size)
    fits = _fits(options, config, counted.image_size)
    if options.cost_json is not None:
        if options.json is not None:
            write_json(to_dict(config), options.json)
        memory = {"gpu_gib": options.gpu, "precision": options.precision, "fits": fits}
        write_json(vars(counted) | ({"memory": memory} if fits else {}), options.cost_json)
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
        output.print(memory_table(fits, options.gpu, counted.image_size))
        output.print(memory_note(options.precision), style="dim")
    return 0


def _fits(options: Arguments, config: TaskConfig, image_size: tuple[int, int]) -> dict[str, Fit]:
    """What is asked for of a GPU, for each thing that is done there."""
    if options.gpu is None:
        return {}
    gpu_bytes, batch_sizes = round(options.gpu * GIB), sorted({1, options.batch_size or _BATCH_SIZE})
    autocast = AUTOCAST[options.precision]
    fit = partial(fit_on_gpu, config, gpu_bytes, batch_sizes, image_size=image_size, autocast=autocast)
    with working("estimating the memory of batches"):
        return {"inference": fit(training=False), "training": fit(training=True)}


def _check(options: Arguments) -> None:
    if options.gpu is not None and not 0 < options.gpu < math.inf:
        raise ValueError(f"--gpu: expected more than 0 GiB, got {options.gpu:g}")
    if options.precision != "fp32" and options.gpu is None:
        raise ValueError(f"--precision: {options.precision} is of the memory that --gpu asks for; give --gpu too")
    if options.batch_size is not None:
        if options.gpu is None:
            raise ValueError(f"--batch-size: {options.batch_size} is of the memory that --gpu asks for; give --gpu too")
        check_count("--batch-size", options.batch_size)
    if options.json and not options.cost_json:
        for option, value in (("--size", options.size), ("--gpu", options.gpu)):
            if value:
                raise ValueError(f"{option}: the configuration does not depend on it; add --cost-json, or leave it out")
    if options.json is not None and options.json == options.cost_json:
        raise ValueError(f"--cost-json: {options.json} is what --json is written to; name another file")
    check_json(options.json)
    check_json(options.cost_json, "--cost-json")
