"""`piip models`: the models that have a name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Column, Table

from piip.cli.console import check_json, output, parse, write_json
from piip.config import nearest
from piip.zoo.cards import ModelCard, PublishedScore, Task, UnknownModelError, find_card, list_models

_SCORES: dict[Task, str] = {"classification": "top-1", "detection": "box/mask", "segmentation": "mIoU"}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """List the models that have a name."""

    pattern: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATTERN")] = "*"
    """Only names that match this pattern, for example '*tsb*'."""
    task: Task | None = None
    """Only models for this task."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the list as JSON to this file; - for standard output."""


def run(arguments: list[str]) -> int:
    """List models.

    Raises:
        UnknownModelError: when no name matches the pattern.
    """
    options = parse(Arguments, "models", arguments)
    cards = [find_card(name) for name in list_models(options.pattern, task=options.task)]
    if not cards:
        of_task = "" if options.task is None else f" for {options.task}"
        hint = nearest(options.pattern, list_models(task=options.task))
        raise UnknownModelError(f"PATTERN: no model{of_task} matches {options.pattern!r}{hint}")
    if options.json is not None:
        check_json(options.json)
        rows = [
            {
                "name": c.name,
                "task": c.task,
                "summary": c.summary,
                "published": c.published,
                "pretraining": c.pretraining,
                "weights_notice": c.weights_notice,
            }
            for c in cards
        ]
        write_json(rows, options.json)
        return 0
    for task, scores in _SCORES.items():
        own = [card for card in cards if card.task == task]
        if own:
            output.print(_table(own, task, scores))
            output.print()
    output.print("Parameters, FLOPs and scores as published, for the released weights.", style="dim")
    return 0


def _table(cards: list[ModelCard], task: Task, scores: str) -> Table:
    """Two lines for each model: names are long, and people copy them."""
    figures = [Column(name, no_wrap=True, justify="right") for name in ("params", "FLOPs", scores)]
    table = Table(Column(task, no_wrap=True), *figures, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for card in cards:
        table.add_row(f"{card.name}\n  [dim]{card.summary}[/dim]", *_figures(card.published))
    return table


def _figures(published: PublishedScore | None) -> tuple[str, str, str]:
    if published is None:
        return "", "", ""
    params = "" if published.params is None else f"{published.params:.0f}M"
    flops = "" if published.flops is None else f"{published.flops:g}G"
    return params, flops, "/".join(f"{score:.1f}" for score in published.scores.values())
