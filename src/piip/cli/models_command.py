"""`piip models`: the models that have a name."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from PIL import Image

from piip.cli.console import check_json, check_picture, note, output, parse, write_json
from piip.cli.two_lines import two_line_table
from piip.config import suggestion
from piip.costs import image_sizes
from piip.files import atomic_path
from piip.plots import Point, plot_points
from piip.zoo.cards import ModelCard, PublishedScore, Task, UnknownModelError, find_card, list_models

_SCORES: dict[Task, str] = {"classification": "top-1", "detection": "box/mask", "segmentation": "mIoU"}

_FIRST_SCORE: dict[Task, str] = {"classification": "top-1", "detection": "box AP", "segmentation": "mIoU"}


_LEFT_OUT = ", without {} of the models, of which no score or FLOPs are published"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """List the models that have a name."""

    pattern: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATTERN")] = "*"
    """Only names that match this pattern, in which * stands for anything: for example '*tsb*'."""
    task: Annotated[tyro.conf.DisallowNone[Task | None], tyro.conf.arg(help_behavior_hint="(default: all)")] = None
    """Only models for this task."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the list as JSON to this file; - for standard output."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Draw the published scores over the published FLOPs into this picture."""


def run(arguments: list[str]) -> int:
    """List models.

    Raises:
        UnknownModelError: when no name matches the pattern.
        ValueError: for a plot of several tasks, or of no published score.
    """
    options = parse(Arguments, "models", arguments)
    cards = [find_card(name) for name in list_models(options.pattern, task=options.task)]
    if not cards:
        of_task = "" if options.task is None else f" for {options.task}"
        hint = _pattern_hint(options.pattern, options.task)
        raise UnknownModelError(f"PATTERN: no model{of_task} matches {options.pattern!r}{hint}")
    check_json(options.json)
    check_picture(options.plot)
    if options.plot is not None:
        points = [point for card in cards if (point := _point(card)) is not None]
        picture = _plot(cards, points)
        with atomic_path(options.plot) as temporary:
            picture.save(temporary, format="PNG")
        left_out = len(cards) - len(points)
        note(f"plot: {options.plot}{_LEFT_OUT.format(left_out) if left_out else ''}")
    if options.json is not None:
        write_json([_as_json(card) for card in cards], options.json)
    if options.json is not None or options.plot is not None:
        return 0
    for task, scores in _SCORES.items():
        own = [card for card in cards if card.task == task]
        if own:
            rows = [(card.name, (card.summary, *_figures(card.published))) for card in own]
            output.print(two_line_table((task, "params", "FLOPs", scores), rows), soft_wrap=True)
            output.print()
    output.print(
        "Parameters, FLOPs and scores as published; models of the paper alone, and demos, have no weights.", style="dim"
    )
    return 0


def _as_json(card: ModelCard) -> dict[str, Any]:
    return {
        "name": card.name,
        "task": card.task,
        "summary": card.summary,
        "published": card.published,
        "image_sizes": image_sizes(card.config()),
        "recipe": card.recipe,
        "pretraining": card.pretraining,
        "checkpoint": card.checkpoint,
        "table": card.table,
        "assumed": card.assumed,
        "licence": card.licence,
        "weights_notice": card.weights_notice,
    }


def _pattern_hint(pattern: str, task: Task | None) -> str:
    """What to try where no name matches a pattern: the same between asterisks, or a name like it."""
    part = pattern.lower().strip("*")
    if part and list_models(f"*{part}*", task=task):
        return f"; try '*{part}*' (* stands for anything)"
    return f"{suggestion(part, list_models(task=task))} (* stands for anything, as in '*tsb*')"


def _point(card: ModelCard) -> Point | None:
    """A point in the colour of its branches, where both numbers are published."""
    published = card.published
    if published is None or published.flops is None or not published.scores:
        return None
    return Point(
        x=published.flops,
        y=next(iter(published.scores.values())),
        name="/".join(map(str, image_sizes(card.config()))),
        group=_family(card),
    )


def _plot(cards: list[ModelCard], points: list[Point]) -> Image.Image:
    """The points of these models."""
    tasks = list(dict.fromkeys(card.task for card in cards))
    if len(tasks) > 1:
        raise ValueError(f"--plot: these models have scores of different kinds; add --task {' or --task '.join(tasks)}")
    if not points:
        raise ValueError("--plot: none of these models has both a published score and published FLOPs")
    return plot_points(points, x_title="GFLOPs, as published", y_title=_FIRST_SCORE[tasks[0]])


def _family(card: ModelCard) -> str:
    """The summary of a card without its image sizes: what it has in common with others."""
    return re.sub(rf" ({'|'.join(map(str, image_sizes(card.config())))})\b", "", card.summary)


def _figures(published: PublishedScore | None) -> tuple[str, str, str]:
    if published is None:
        return "", "", ""
    params = "" if published.params is None else f"{published.params}M"
    flops = "" if published.flops is None else f"{published.flops}G"
    return params, flops, "/".join(map(str, published.scores.values()))
