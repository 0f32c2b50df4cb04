"""`piip predict`: classify images."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Annotated

import tyro
from rich.markup import escape
from rich.table import Table

from piip.cli.console import check_json, find_device, make_folder, note, output, parse, progress_bar, warn, write_json
from piip.draw import annotate_classification
from piip.files import atomic_path
from piip.images import find_images, read_image
from piip.tasks.classification.prediction import ClassScore, predict
from piip.zoo.load import is_saved, load_model

_IMAGES = tyro.conf.arg(metavar="IMAGE ...", help_behavior_hint="(at least one)")


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Classify images; print a table, write pictures and JSON."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Folder of a trained model, or name of a model (see piip models)."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, _IMAGES]
    """Image files, and folders of them."""
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Weights of a named model: ours (.safetensors) or an official checkpoint (.pth)."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Write the images with their predictions to this folder."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the predictions as JSON to this file; - for standard output."""
    top: int = 5
    """How many classes to give for each image."""
    batch_size: int = 16
    """Images in a batch."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes the GPU where there is one."""


def run(arguments: list[str]) -> int:
    """Predict.

    Raises:
        ValueError: when no image is named.
    """
    options = parse(Arguments, "predict", arguments)
    if not options.images:
        raise ValueError(f"IMAGE: none given; name image files or folders of them: piip predict {options.model} PHOTO")
    paths = find_images(options.images)
    device = find_device(options.device)
    check_json(options.json)
    if options.out is not None:
        make_folder(options.out, "--out")
    model = load_model(options.model, options.weights).to(device)
    if options.weights is None and not is_saved(options.model):
        warn("no --weights were given: this model's weights are random, and its predictions mean nothing")
    predictions = predict(model, paths, top=options.top, batch_size=options.batch_size)
    with progress_bar() as bar:
        results = dict(bar.track(predictions, len(paths), description="predicting"))
    if options.out is not None:
        _write_pictures(results, options.out)
    if options.json is not None:
        write_json({str(path): scores for path, scores in results.items()}, options.json)
    if str(options.json) != "-":
        _print(results)
    if options.out is not None:
        note(f"{len(results)} pictures: {options.out}")
    return 0


def _write_pictures(results: dict[Path, list[ClassScore]], folder: Path) -> None:
    for path, name in zip(results, _picture_names(results, folder), strict=True):
        scores = [(score.name, score.score) for score in results[path]]
        with atomic_path(folder / name) as temporary:
            annotate_classification(read_image(path), scores).save(temporary)


def _picture_names(paths: Collection[Path], folder: Path) -> Iterator[str]:
    """A file name for each image, after its own and its folder's; where that is taken, with a number.

    Taken are the names of the images themselves that are in `folder`, and capitals make no difference, as some file
    systems make none.
    """
    taken = {path.name.lower() for path in paths if path.parent.resolve() == folder.resolve()}
    for path in paths:
        stem = "_".join(filter(None, (path.parent.name, path.stem)))
        numbered = (f"{stem}-{number}.png" for number in count(2))
        name = next(name for name in chain([f"{stem}.png"], numbered) if name.lower() not in taken)
        taken.add(name.lower())
        yield name


def _print(results: dict[Path, list[ClassScore]]) -> None:
    table = Table("image", "class", "score")
    for path, scores in results.items():
        for place, score in enumerate(scores):
            table.add_row(escape(str(path)) if place == 0 else "", escape(score.name), f"{100 * score.score:.1f} %")
        table.add_section()
    output.print(table)
