"""`piip predict`: classify images, find the objects in them, or tell the class of each pixel."""

from collections.abc import Collection, Iterator
from itertools import chain, count
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from piip.cli.card_table import tell_notice
from piip.cli.console import check_json, find_device, make_folder, note, output, parse, progress_bar, warn, write_json
from piip.cli.tasks import PredictArguments, Prediction, find_task, refuse_unused
from piip.files import atomic_path
from piip.images import ImageError, find_images, read_image
from piip.zoo.load import create_model, find_config, is_saved

_LABELS = "labels"  # the folder of label maps, in that of the pictures


def run(arguments: list[str]) -> int:
    """Predict.

    What cannot be read is told and left out, and makes the status 1: one damaged file does not cost the others.

    Raises:
        ValueError: when no image is named.
    """
    options = parse(PredictArguments, "predict", arguments)
    if not options.images:
        raise ValueError(f"IMAGE: none given; name image files or folders of them: piip predict {options.model} PHOTO")
    paths = find_images(options.images)
    device = find_device(options.device)
    check_json(options.json)
    if options.out is not None:
        make_folder(options.out, "--out")
    task = find_task(find_config(options.model))
    refuse_unused(task, options)
    model = create_model(options.model, options.weights, device=device)
    tell_notice(options.model, trained_elsewhere=options.weights is not None)
    if options.weights is None and not is_saved(options.model):
        warn("no --weights were given: this model's weights are random, and its predictions mean nothing")
    table, entries = Table(Column("image", overflow="fold"), *task.columns), dict[str, Any]()
    pictures = dict(zip(paths, _picture_names(paths, options.out), strict=True)) if options.out is not None else {}
    unreadable: list[Path] = []

    def skip(path: Path, error: ImageError) -> None:
        unreadable.append(path)
        entries[str(path)] = {"error": str(error)}
        warn(str(error))

    with progress_bar() as bar:
        predictions = bar.track(task.predict(model, paths, options, skip), len(paths), description="predicting")
        for path, prediction in predictions:  # nothing large is kept of an image for the next one
            _add_rows(table, path, prediction)
            if options.out is not None:
                _write_pictures(path, prediction, options.out / pictures[path])
            if options.json is not None:
                entries[str(path)] = prediction.as_json()
    if options.json is not None:
        write_json({str(path): entries[str(path)] for path in paths}, options.json)
    if str(options.json) != "-":
        output.print(table)
    if pictures:
        count = len(pictures) - len(unreadable)
        note(f"{count} picture{'s' * (count != 1)}: {options.out}")
    if unreadable:
        warn(f"{len(unreadable)} of {len(paths)} images could not be read")
    return 1 if unreadable else 0


def _add_rows(table: Table, path: Path, prediction: Prediction) -> None:
    for place, row in enumerate(prediction.rows()):
        table.add_row(escape(str(path)) if place == 0 else "", *row)
    table.add_section()


def _write_pictures(path: Path, prediction: Prediction, target: Path) -> None:
    with atomic_path(target) as temporary:
        prediction.draw(read_image(path)).save(temporary)
    labels = prediction.draw_labels()
    if labels is not None:
        make_folder(target.parent / _LABELS, "--out")
        with atomic_path(target.parent / _LABELS / target.name) as temporary:
            labels.save(temporary)


def _picture_names(paths: Collection[Path], folder: Path) -> Iterator[str]:
    """A file name for each image, after its own and its folder's; where that is taken, with a number.

    Taken are the names of the images themselves that are in `folder` or its label maps' folder, and capitals make no
    difference, as some file systems make none.
    """
    folders = (folder.resolve(), (folder / _LABELS).resolve())
    taken = {path.name.lower() for path in paths if path.parent.resolve() in folders}
    for path in paths:
        stem = "_".join(filter(None, (path.parent.name, path.stem)))
        numbered = (f"{stem}-{number}.png" for number in count(2))
        name = next(name for name in chain([f"{stem}.png"], numbered) if name.lower() not in taken)
        taken.add(name.lower())
        yield name
