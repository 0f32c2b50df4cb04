"""`piip models`: the models that have a name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from piip.cli.console import check_json, output, parse, write_json
from piip.config import nearest
from piip.zoo.cards import PublishedScore, UnknownModelError, find_card, list_models


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """List the models that have a name."""

    pattern: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATTERN")] = "*"
    """Only names that match this pattern, for example '*tsb*'."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the list as JSON to this file; - for standard output."""


def run(arguments: list[str]) -> int:
    """List models.

    Raises:
        UnknownModelError: when no name matches the pattern.
    """
    options = parse(Arguments, "models", arguments)
    cards = [find_card(name) for name in list_models(options.pattern)]
    if not cards:
        raise UnknownModelError(
            f"PATTERN: no model matches {options.pattern!r}{nearest(options.pattern, list_models())}"
        )
    if options.json is not None:
        check_json(options.json)
        rows = [
            {
                "name": c.name,
                "task": c.task,
                "summary": c.summary,
                "published": c.published,
                "pretraining": c.pretraining,
            }
            for c in cards
        ]
        write_json(rows, options.json)
        return 0
    columns = (Column("model", no_wrap=True), "task", "branches", "params", "FLOPs", "score")
    table = Table(*columns, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for card in cards:
        score = card.published
        figures = ("", "", "") if score is None else (f"{score.params:.0f}M", f"{score.flops:g}G", _scores(score))
        table.add_row(card.name, card.task, card.summary, *figures)
    output.print(table)
    output.print(
        "Parameters, FLOPs and scores (ImageNet-1K top-1; COCO box / mask AP) as published, for the released weights.",
        style="dim",
    )
    return 0


def _scores(published: PublishedScore) -> str:
    return " / ".join(f"{score:.1f}" for score in published.scores.values())
