"""`piip shapes`: the generated dataset."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from piip.cli.console import make_folder, output, parse
from piip.shapes import ShapesConfig, write_image_folder


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Write the generated dataset shapes, in the layout of ImageNet (OUT/train/CLASS/*.png, OUT/val/...)."""

    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder to write; it must not hold anything else."""
    num_train: int = 2000
    """Images to train on."""
    num_val: int = 400
    """Held-out images."""
    scenes: Annotated[ShapesConfig, tyro.conf.OmitArgPrefixes] = field(default_factory=ShapesConfig)
    """What is drawn."""


def run(arguments: list[str]) -> int:
    """Write the dataset."""
    options = parse(Arguments, "shapes", arguments)
    make_folder(options.out.parent, "OUT")
    write_image_folder(options.out, options.scenes, num_train=options.num_train, num_val=options.num_val)
    output.print(f"{options.num_train} training and {options.num_val} held-out images: {options.out}")
    return 0
