"""`piip shapes`: the generated dataset."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import tyro

from piip.cli.console import make_folder, output, parse
from piip.shapes import ShapesConfig, write_ade20k, write_coco, write_image_folder

Layout = Literal["folder", "coco", "ade20k"]

_WRITERS: dict[str, Callable[..., Path]] = {
    "folder": write_image_folder,
    "coco": write_coco,
    "ade20k": write_ade20k,
}
_MANY = ShapesConfig(image_size=192, max_objects=5, min_size=0.1, max_size=0.5)
_SCENES = {"folder": ShapesConfig(), "coco": _MANY, "ade20k": _MANY}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Write the generated dataset shapes: to classify, to detect or to segment."""

    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder to write; it must not hold anything else."""
    layout: Layout = "folder"
    """That of ImageNet, one object an image; or that of COCO (boxes and masks of objects) or ADE20K (a class for each
    pixel), several. What is drawn by default depends on it."""
    num_train: int = 2000
    """Images to train on."""
    num_val: int = 400
    """Held-out images."""
    scenes: Annotated[ShapesConfig, tyro.conf.OmitArgPrefixes]
    """What is drawn."""


def run(arguments: list[str]) -> int:
    """Write the dataset."""
    options = _parse(arguments)
    make_folder(options.out.parent, "OUT")
    _WRITERS[options.layout](options.out, options.scenes, num_train=options.num_train, num_val=options.num_val)
    output.print(f"{options.num_train} training and {options.num_val} held-out images: {options.out}")
    return 0


def _parse(arguments: list[str]) -> Arguments:
    """The options, with the scenes that go with the layout as the default of what is drawn."""
    given = [after for option, after in pairwise(arguments) if option == "--layout"]
    given += [argument.removeprefix("--layout=") for argument in arguments if argument.startswith("--layout=")]
    layout = given[-1] if given else "folder"
    default = Arguments(out=tyro.MISSING, scenes=_SCENES.get(layout, ShapesConfig()))
    return parse(Arguments, "shapes", arguments, default)
