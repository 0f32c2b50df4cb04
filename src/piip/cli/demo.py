"""`make demo`: from nothing to pictures of predictions, by the commands that anyone would use."""

import shlex
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from rich.markup import escape

from piip.cli import eval_command, predict_command, shapes_command, train_command
from piip.cli.console import output
from piip.config import read_json
from piip.draw import contact_sheet
from piip.files import atomic_path
from piip.images import images_below, read_image

_MODEL = "piip_demo_shapes_96-48-32"
_PICTURES_PER_CLASS = 2


def main(folder: Path, *, num_train: int = 3000, num_val: int = 300, epochs: int = 10) -> None:
    """Generate a dataset, train a tiny model on it, score it, and write pictures of its predictions.

    Args:
        folder: where everything goes; what an earlier demo has left there is used again.
        num_train: images to train on.
        num_val: held-out images.
        epochs: passes over the training images.
    """
    torch.set_num_threads(1)  # so small a model gains little from more, and loses much where others want the cores
    start = time.monotonic()
    data, run, pictures = folder / "shapes", folder / "run", folder / "pictures"
    shapes = [data, "--num-train", num_train, "--num-val", num_val, "--image-size", 96]
    _call(shapes_command.run, "shapes", shapes)
    # On few cores, processes that load such small images take more from training than they give.
    settings = ["--training.epochs", epochs, "--training.num-workers", 0]
    _call(train_command.run, "train", [_MODEL, "--data", data, "--out", run, *settings, "--resume"])
    scores = folder / "scores.json"
    _call(eval_command.run, "eval", [run / "best", "--data", data, "--per-class", "--json", scores])
    predictions = folder / "predictions.json"
    out = ["--out", pictures / "each", "--json", predictions]
    _call(predict_command.run, "predict", [run / "best", *_choose(data / "val"), *out, "--top", 3])
    sheet = _draw_sheet(predictions, pictures / "sheet.png")
    classes = len(list((data / "val").iterdir()))
    output.print(
        f"\nheld-out accuracy: [bold]{read_json(scores)['top1']:.1f} %[/] on {num_val} images of {classes} classes "
        f"(chance: {100 / classes:.1f} %)\n"
        f"model:             {run / 'best'}\n"
        f"pictures:          {sheet}, {pictures / 'each'}\n"
        f"time:              {time.monotonic() - start:.0f} s"
    )


def _call(run: Callable[[list[str]], int], command: str, arguments: Iterable[object]) -> None:
    """Run a command, showing what one would type; ends the process if it fails."""
    words = [str(argument) for argument in arguments]
    output.print(f"\n[bold]$ piip {command} {escape(shlex.join(words))}[/]", soft_wrap=True)
    status = run(words)
    if status:
        sys.exit(status)


def _choose(split: Path) -> list[str]:
    """A few images of each class, taken in turn."""
    by_class = [images_below(folder)[:_PICTURES_PER_CLASS] for folder in sorted(split.iterdir()) if folder.is_dir()]
    return [path for paths in zip(*by_class, strict=True) for path in paths]


def _draw_sheet(predictions: Path, target: Path) -> Path:
    """All predictions on one picture, each under its image, with what it is where that is something else."""
    found = read_json(predictions)
    titles = []
    for path, scores in found.items():
        best, truth = scores[0], Path(path).parent.name
        title = f"{best['name']} {100 * best['score']:.0f} %"
        titles.append(title if best["name"] == truth else f"{title} (is {truth})")
    sheet = contact_sheet([read_image(path) for path in found], columns=6, titles=titles)
    with atomic_path(target) as temporary:
        sheet.save(temporary)
    return target


if __name__ == "__main__":
    main(Path(sys.argv[1]))
