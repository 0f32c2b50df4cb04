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

_MODEL = "mask_rcnn_demo_shapes_192-96-64"
_NUM_PICTURES = 12


def main(folder: Path, *, num_train: int = 400, num_val: int = 60, epochs: int = 4) -> None:
    """Generate a dataset, train a small Mask R-CNN on it, score it, and write pictures of what it finds.

    Args:
        folder: where everything goes; what an earlier demo has left there is used again.
        num_train: images to train on.
        num_val: held-out images.
        epochs: passes over the training images.
    """
    torch.set_num_threads(1)  # so small a model gains little from more, and loses much where others want the cores
    start = time.monotonic()
    data, run, pictures = folder / "shapes", folder / "run", folder / "pictures"
    shapes = [data, "--layout", "coco", "--num-train", num_train, "--num-val", num_val]
    _call(shapes_command.run, "shapes", shapes)
    # On few cores, processes that load such small images take more from training than they give.
    settings = ["--training.epochs", epochs, "--training.evaluate-every", epochs, "--training.num-workers", 0]
    _call(train_command.run, "train", [_MODEL, "--data", data, "--out", run, *settings, "--resume"])
    scores = folder / "scores.json"
    _call(eval_command.run, "eval", [run / "best", "--data", data, "--per-class", "--json", scores])
    held_out = images_below(data / "val2017")[:_NUM_PICTURES]
    each = pictures / "each"
    out = ["--out", each, "--json", folder / "predictions.json"]
    _call(predict_command.run, "predict", [run / "best", *held_out, *out])
    sheet = _draw_sheet(each, pictures / "sheet.png")
    found = read_json(scores)
    output.print(
        f"\nheld-out AP: [bold]boxes {found['box']['ap']:.1f}, masks {found['mask']['ap']:.1f}[/] (COCO's, of 100), on "
        f"{num_val} images\n"
        f"model:       {run / 'best'}\n"
        f"pictures:    {sheet}, {each}\n"
        f"time:        {time.monotonic() - start:.0f} s"
    )


def _call(run: Callable[[list[str]], int], command: str, arguments: Iterable[object]) -> None:
    """Run a command, showing what one would type; ends the process if it fails."""
    words = [str(argument) for argument in arguments]
    output.print(f"\n[bold]$ piip {command} {escape(shlex.join(words))}[/]", soft_wrap=True)
    status = run(words)
    if status:
        sys.exit(status)


def _draw_sheet(pictures: Path, target: Path) -> Path:
    """All pictures on one."""
    sheet = contact_sheet([read_image(path) for path in images_below(pictures)], columns=4, cell_size=288)
    with atomic_path(target) as temporary:
        sheet.save(temporary)
    return target


if __name__ == "__main__":
    main(Path(sys.argv[1]))
