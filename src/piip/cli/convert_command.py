"""`piip convert`: official checkpoints into ours and back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from piip.cli.console import check_file, check_folder, note, parse
from piip.hub import save_model
from piip.weights import WEIGHTS_NAME, save_tensors, weights_path
from piip.zoo.checkpoints import SUFFIX, fit_checkpoint, is_ours, save_official
from piip.zoo.load import candidates, is_saved


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Turn an official checkpoint into ours, or back.

    Values and types stay as they are, there and back.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Official checkpoint (.pth); with --reverse our weights (.safetensors), or the folder of a model."""
    model: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """Name of the model that it is of (see piip models), or folder of one like it. A folder as FILE needs none."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER|FILE")]
    """Folder for the model, or .safetensors file for its weights alone; with --reverse, file for the checkpoint."""
    reverse: bool = False
    """Turn ours into what the official code can load: a plain state dict."""


def run(arguments: list[str]) -> int:
    """Convert a checkpoint.

    Raises:
        ValueError: for a file that is converted already, no model to go with it, or a result that is there already.
    """
    options = parse(Arguments, "convert", arguments)
    to_folder = not options.reverse and options.out.suffix != SUFFIX
    _check(options)
    _check_out(options.out, to_folder)
    model, tensors = fit_checkpoint(options.file, candidates(options.model or options.file))
    if options.reverse:
        save_official(model, tensors, options.out)
    elif to_folder:
        save_model(model.config, tensors, options.out)
    else:
        save_tensors(tensors, options.out)
    note(f"{len(tensors)} tensors: {options.out}")
    return 0


def _check(options: Arguments) -> None:
    file = options.file
    if file.is_dir() and not weights_path(file).is_file():
        raise ValueError(f"FILE: the folder {file} has no {WEIGHTS_NAME}; name a checkpoint, or the folder of a model")
    if options.reverse and not is_ours(file):
        raise ValueError(f"FILE: {file} is neither a .safetensors file nor a folder, as ours are; leave --reverse out")
    if is_ours(file) and not options.reverse:
        raise ValueError(f"FILE: {file} is ours already; --reverse turns it into an official checkpoint")
    if options.reverse and options.out.suffix in (SUFFIX, ".npz"):
        raise ValueError(f"--out: {options.out} will be no {options.out.suffix} file; official checkpoints are .pth")
    if options.model is None and not is_saved(file):
        raise ValueError(f"--model: {file} does not tell what it is of; name the model (piip models lists them)")


def _check_out(out: Path, is_folder: bool) -> None:
    """Refuse what cannot be written, and to replace what is there: it may be what a conversion started from."""
    if is_folder:
        check_folder(out, "--out")
        is_there = is_saved(out) or weights_path(out).exists()
    else:
        check_file(out, "--out")
        is_there = out.exists()
    if is_there:
        what = "model" if is_folder else "file"
        raise ValueError(f"--out: there is a {what} at '{out}' already; name another place, or move it elsewhere")
