"""What the commands share: how they read options, where they print, devices, JSON."""

import dataclasses
import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from piip.devices import check_device
from piip.files import atomic_path
from piip.images import ImageWarning

T = TypeVar("T")

output = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
"""Results, on standard output."""

errors = Console(stderr=True, width=None if sys.stderr.isatty() else 100, soft_wrap=True)
"""Errors, notes and progress, on standard error."""

MAX_WORKERS = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
"""How many processes read images if nothing else is said: no more than there are cores for."""


def parse(arguments_class: type[T], command: str, arguments: list[str], default: T | None = None) -> T:
    """Read the options of a command; of several processes with the same ones, the first prints what is wrong.

    Args:
        arguments_class: the options, a dataclass.
        command: its name.
        arguments: what stands after the name.
        default: values of options that are not given, where those of the class do not do.

    Raises:
        SystemExit: with 0 after printing the help, or 2 for options that cannot be read.
    """
    is_first = os.environ.get("RANK", "0") == "0"
    return tyro.cli(
        arguments_class,
        prog=f"piip {command}",
        args=arguments,
        default=tyro.MISSING_NONPROP if default is None else default,
        console_outputs=is_first,
    )


def find_device(name: str) -> torch.device:
    """The device of this name; `auto` is the GPU where there is one.

    Raises:
        ValueError: for a name that PyTorch does not know, or a device that is not there.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    device = check_device(name, "--device")
    if device.type == "meta":
        raise ValueError("--device: 'meta' cannot be used: nothing is computed there")
    return device


def note(text: str) -> None:
    """Tell people something beside the results."""
    errors.print(text, style="dim", markup=False, highlight=False)


def warn(text: str) -> None:
    """Tell people something that they must not miss."""
    errors.print(f"[bold yellow]note:[/] {escape(text)}", highlight=False)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Tells of images that cannot be read in one line each, without the place in the code."""
    before = warnings.formatwarning

    def format_warning(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if not issubclass(category, ImageWarning):
            return before(message, category, filename, lineno, line)
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""  # there may be a progress bar
        return f"{clear}note: {message}\n"

    warnings.formatwarning = format_warning
    try:
        yield
    finally:
        warnings.formatwarning = before


@contextmanager
def working(what: str) -> Iterator[None]:
    """Shows that work without steps is going on, on standard error; only where that is a terminal."""
    if not errors.is_terminal:
        yield
        return
    with errors.status(what):
        yield


def progress_bar(*, visible: bool = True) -> Progress:
    """A progress bar on standard error, which goes away when it is done; only where that is a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not (visible and errors.is_terminal),
    )


def make_folder(folder: Path, option: str) -> None:
    """Make a folder for results, before the work that leads to them begins.

    Raises:
        ValueError: naming the option, when it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{option}: the folder '{folder}' cannot be made: {error.strerror}") from error
    _check_writable(folder, option)


def check_folder(folder: Path, option: str) -> None:
    """Refuse a folder that could not be made or written to, without making it.

    Raises:
        ValueError: naming the option.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"{option}: '{there}' is a file; name a folder")
    _check_writable(there, option)


def _check_writable(folder: Path, option: str) -> None:
    """Refuse a folder in which nothing can be made: of some, as `/proc`, only an attempt tells."""
    try:
        with TemporaryDirectory(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{option}: the folder '{folder}' cannot be written to: {error.strerror}") from error


def check_json(target: Path | None, option: str = "--json") -> None:
    """Refuse a target of `write_json` that cannot be written, before the work that leads to it begins.

    Raises:
        ValueError: naming the option and the target.
    """
    if str(target) != "-":
        check_file(target, option, ", or - for standard output")


def check_file(target: Path | None, option: str, alternative: str = "") -> None:
    """Refuse a file that cannot be written, before the work that leads to it begins, and make its folder.

    Args:
        target: the file; None where none is wanted.
        option: what it was named by.
        alternative: what else the option takes, for the message.

    Raises:
        ValueError: naming the option and the target.
    """
    if target is None:
        return
    if target.exists() and not target.is_file():
        raise ValueError(f"{option}: '{target}' is a folder or a device; name a file{alternative}")
    make_folder(target.parent, option)


def read_size(sides: tuple[int, ...]) -> tuple[int, int] | None:
    """Height and width of an image, of `--size`; None where it was not given.

    Raises:
        ValueError: for more sides than two, or sides that are not positive.
    """
    if not sides:
        return None
    if len(sides) > 2 or min(sides) < 1:
        raise ValueError(f"--size: expected the side of an image, or its height and width, got {sides}")
    return sides[0], sides[-1]


def check_picture(target: Path | None) -> None:
    """Refuse a picture that cannot be written, or would be no PNG by its name.

    Raises:
        ValueError: naming the target.
    """
    if target is not None and target.suffix.lower() != ".png":
        raise ValueError(f"--plot: '{target}' must end in .png; no other picture is written")
    check_file(target, "--plot")


def write_json(data: Any, target: Path) -> None:
    """Write results as JSON to a file, or to standard output where the name is `-`.

    Args:
        data: dataclasses, mappings with strings as keys, sequences, numbers, strings, paths.
        target: a file, in a folder that is made if it is not there.
    """
    text = json.dumps(data, indent=2, default=_plain) + "\n"
    if str(target) == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} cannot be written as JSON")
