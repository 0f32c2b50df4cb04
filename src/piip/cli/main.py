"""`piip COMMAND ...`: finds the command, and turns errors of the user into messages."""

import importlib
import os
import sys
import traceback
from pathlib import Path

import torch
from rich.table import Table

import piip
from piip.cli.console import errors, output, plain_warnings
from piip.config import nearest

_COMMANDS = {
    "train": "Train a classifier, detector or segmentor.",
    "eval": "Score a model on a labelled dataset.",
    "predict": "Classify images, find objects or label pixels; print a table, write pictures and JSON.",
    "models": "List the models that have a name.",
    "info": "Show what a model is made of, and what it costs.",
    "bench": "Measure how long models take, and how much memory.",
    "convert": "Turn an official checkpoint into ours, or back.",
    "shapes": "Write the generated dataset, shapes.",
}
_TRACEBACK = "PIIP_TRACEBACK"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ends the process with 0, 2 for an error of the user, or 130 and 143 when interrupted."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        _print_commands()
        return 0 if arguments else 2
    if arguments[0] == "--version":
        output.print(f"piip {piip.__version__}")
        return 0
    command, *rest = arguments
    try:
        if command not in _COMMANDS:
            raise ValueError(f"there is no command {command!r}{nearest(command, list(_COMMANDS))}")
        with plain_warnings():
            status: int = importlib.import_module(f"piip.cli.{command}_command").run(rest)
    except SystemExit as stop:  # of the option parser, which has printed why
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # what reads our output has had enough of it
        output.on_broken_pipe()
        return 1
    except (ValueError, OSError, ImportError, torch.OutOfMemoryError) as error:
        if os.environ.get(_TRACEBACK):
            raise
        _print_error(error)
        return 2
    return status


def _print_error(error: Exception) -> None:
    errors.print("[bold red]error:[/] ", end="")
    errors.print(str(error), markup=False, highlight=False)
    if isinstance(error, torch.OutOfMemoryError):
        errors.print("a smaller --batch-size takes less memory, where a model has one; in training, more accumulation")
    if not _is_ours(error):
        errors.print(f"[dim]({_TRACEBACK}=1 shows where this comes from)[/]")


def _is_ours(error: Exception) -> bool:
    """Whether `piip` itself raised it, with a message made for people."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(Path(__file__).parents[1])


def _print_commands() -> None:
    output.print("piip: Parameter-Inverted Image Pyramid Networks\n\nusage: piip COMMAND [OPTIONS]\n", highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 2))
    for command, summary in _COMMANDS.items():
        table.add_row(f"[bold]{command}[/]", summary)
    output.print(table)
    output.print("\npiip COMMAND --help lists the options of a command.", highlight=False)
