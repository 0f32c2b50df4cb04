"""What all layouts of shapes on disk share: which scenes they hold, and that they are there whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from piip.progress import show_progress
from piip.shapes.scene import Scene, ShapesConfig, draw_scene

Split = Literal["train", "val"]
Description = dict[str, object]
"""How a dataset was made, as it is kept in `shapes.json`."""

# Scene numbers of the held-out split start here, so that it stays the same for any number of training scenes.
_VAL_START = 1_000_000_000
_INDEX_FILE = "shapes.json"


def split_indices(split: Split, count: int) -> range:
    """Returns the scene numbers of a split: the first `count` of it. Those of `"train"` and `"val"` never meet."""
    if not 0 <= count <= _VAL_START:
        raise ValueError(f"a split has between 0 and {_VAL_START} scenes, got {count}")
    start = _VAL_START if split == "val" else 0
    return range(start, start + count)


def describe(layout: str, config: ShapesConfig, *, num_train: int, num_val: int) -> Description:
    """Returns how a dataset is made.

    Raises:
        ValueError: If a split would have no image.
    """
    if min(num_train, num_val) < 1:
        raise ValueError(f"num_train={num_train} and num_val={num_val} must be at least 1")
    return {"layout": layout, "num_train": num_train, "num_val": num_val, "config": asdict(config)}


def is_finished(root: Path, description: Description) -> bool:
    """Tells whether `root` holds the dataset already; raises if it holds another one or anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    index_file = root / _INDEX_FILE
    if not index_file.is_file():
        raise FileExistsError(f"'{root}' exists and is no shapes dataset: name another folder, or delete it")
    if json.loads(index_file.read_text()) != description:
        raise FileExistsError(
            f"'{root}' holds another shapes dataset (see {index_file}): name another folder, or delete it"
        )
    return True


@contextmanager
def partial_folder(root: Path, description: Description) -> Iterator[Path]:
    """Gives a temporary folder to write a dataset to, which becomes `root` at the end, or goes away after an error."""
    partial = root.with_name(f".{root.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        (partial / _INDEX_FILE).write_text(json.dumps(description, indent=2) + "\n")
        if root.exists():
            root.rmdir()
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def draw_splits(
    root: Path, config: ShapesConfig, *, num_train: int, num_val: int
) -> Iterator[tuple[Split, int, Scene]]:
    """Draws all scenes of a dataset, each with its split and its number there.

    What takes more than a moment gets a progress bar, which names `root`.
    """
    numbers: list[tuple[Split, int]] = [("train", number) for number in range(num_train)]
    numbers += [("val", number) for number in range(num_val)]
    for split, number in show_progress(numbers, len(numbers), f"drawing {root}"):
        yield split, number, draw_scene(config, split_indices(split, number + 1)[number])
