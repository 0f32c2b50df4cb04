"""Writing shapes to disk in the layouts of real datasets."""

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal, TypeVar

from PIL import Image
from rich.console import Console
from rich.progress import Progress

from piip.shapes.outlines import SHAPE_NAMES
from piip.shapes.scene import ShapesConfig, draw_scene

Split = Literal["train", "val"]
_Item = TypeVar("_Item")

# Scene numbers of the held-out split start here, so that it stays the same for any number of training scenes.
_VAL_START = 1_000_000_000
_INDEX_FILE = "shapes.json"
_SILENT_SECONDS = 2.0


def split_indices(split: Split, count: int) -> range:
    """Returns the scene numbers of a split: the first `count` of it. Those of `"train"` and `"val"` never meet."""
    if not 0 <= count <= _VAL_START:
        raise ValueError(f"a split has between 0 and {_VAL_START} scenes, got {count}")
    start = _VAL_START if split == "val" else 0
    return range(start, start + count)


def write_image_folder(root: str | os.PathLike[str], config: ShapesConfig, *, num_train: int, num_val: int) -> Path:
    """Writes scenes of one object as `root/{train,val}/<class>/<number>.png`, the layout of ImageNet.

    Classes are balanced to within one image. The folder appears when it is complete, never in part; `shapes.json` in it
    tells how it was made. If exactly this dataset is there, nothing is done.

    Args:
        root: The folder to be made.
        config: What is drawn.
        num_train: Training images of all classes together.
        num_val: Held-out images of all classes together.

    Returns:
        `root`.

    Raises:
        ValueError: If `config` draws more or fewer objects than one, or a class would have no image.
        FileExistsError: If `root` holds anything but this dataset.
    """
    if (config.min_objects, config.max_objects) != (1, 1):
        raise ValueError(
            f"an image with one label needs one object, but min_objects={config.min_objects} and "
            f"max_objects={config.max_objects}: set both to 1"
        )
    if min(num_train, num_val) < config.num_classes:
        raise ValueError(
            f"num_train={num_train} and num_val={num_val} must be at least num_classes={config.num_classes}, "
            f"so that each class has an image"
        )
    root = Path(root)
    description = {"layout": "image folder", "num_train": num_train, "num_val": num_val, "config": asdict(config)}
    if _is_finished(root, description):
        return root
    scenes: list[tuple[Split, int]] = [("train", index) for index in split_indices("train", num_train)]
    scenes += [("val", index) for index in split_indices("val", num_val)]
    partial = root.with_name(f".{root.name}.{os.getpid()}.partial")
    try:
        for split, index in _with_progress(scenes, f"drawing {root}"):
            scene = draw_scene(config, index)
            folder = partial / split / SHAPE_NAMES[scene.labels[0]]
            folder.mkdir(parents=True, exist_ok=True)
            number = index - split_indices(split, 0).start
            Image.fromarray(scene.image).save(folder / f"{number:05d}.png", compress_level=1)
        (partial / _INDEX_FILE).write_text(json.dumps(description, indent=2) + "\n")
        if root.exists():
            root.rmdir()
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


def _is_finished(root: Path, description: dict[str, object]) -> bool:
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


def _with_progress(items: Sequence[_Item], title: str) -> Iterator[_Item]:
    """Yields the items, with a progress bar for what takes more than a moment."""
    start = time.monotonic()
    with_bar = False
    progress = Progress(console=Console(stderr=True))
    task = progress.add_task(title, total=len(items))
    try:
        for item in items:
            if not with_bar and time.monotonic() - start > _SILENT_SECONDS:
                progress.start()
                with_bar = True
            yield item
            progress.advance(task)
    finally:
        if with_bar:
            progress.stop()
