"""Datasets in the format of COCO: one JSON file of annotations, one folder of images.

Nothing in such a file can be relied on, so everything is looked at once, when it is opened.

| found | what is done |
|---|---|
| no such file or folder, damaged JSON, lists that are missing or are no lists | refused |
| categories without an id, two of one id or one name; two images of one id | refused |
| a category that the model does not know | refused |
| no image that is there, or all that are tried have another size | refused |
| what `Problem` lists | left out, or used in part, as it says; counted, and the first ones named |

Whether files begin as images do, of the size that is said, is looked up in each. What is damaged further on is found
out when they are read: training takes another image in its place, and leaves it out of its evaluations, with a warning
that names the file; an evaluation for its own sake, which must be one of all images, ends with an `ImageError`.

As in the official release, objects are not trained on if they are crowds, marked with `ignore`, or under a pixel wide
or high. In evaluation they count as they do in COCO's own.
"""

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from piip.batches import Size
from piip.config import ConfigError, listing, read_json
from piip.problems import DatasetError, Problems, refuse_duplicates
from piip.tasks.detection.checks import Problem
from piip.tasks.detection.coco_images import check_files, read_images
from piip.tasks.detection.coco_objects import read_objects
from piip.tasks.detection.segments import Segments


@dataclass(frozen=True, kw_only=True, eq=False)
class CocoAnnotations:
    """The images of a dataset and the objects in them, grouped by image.

    Attributes:
        file: Where it was read.
        image_folder: Where the images are.
        class_names: Of each label.
        category_ids: Of each label; None for a class of the model that the file does not have.
        image_ids: `(M,)`, int64.
        file_names: Of each image, in the folder.
        sizes: Height and width of each image.
        starts: `(M + 1,)`, int64: the objects of image i are those from `starts[i]` to before `starts[i + 1]`.
        labels: `(N,)`, int64.
        boxes: `(N, 4)`, float64, as x, y, width, height, as they stand in the file.
        areas: `(N,)`, float64, of the masks, as they stand in the file; where they do not, of the boxes.
        is_crowd: `(N,)`, bool: regions of many objects that are not told apart.
        is_trained_on: `(N,)`, bool.
        has_mask: `(N,)`, bool.
        segment_numbers: `(N,)`, int64, of the masks in `segments`.
        segments: The masks.
        problems: What was wrong.
    """

    file: Path
    image_folder: Path
    class_names: tuple[str, ...]
    category_ids: tuple[int | None, ...]
    image_ids: NDArray[np.int64]
    file_names: tuple[str, ...]
    sizes: tuple[Size, ...]
    starts: NDArray[np.int64]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    is_crowd: NDArray[np.bool_]
    is_trained_on: NDArray[np.bool_]
    has_mask: NDArray[np.bool_]
    segment_numbers: NDArray[np.int64]
    segments: Segments
    problems: Problems

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.image_ids)

    def objects(self, image: int) -> NDArray[np.int64]:
        """The numbers of the objects in an image."""
        return np.arange(self.starts[image], self.starts[image + 1])

    def runs(self, number: int, size: Size) -> NDArray[np.int64]:
        """The mask of an object that has one, as runs (see `piip.rle`)."""
        return self.segments.runs(int(self.segment_numbers[number]), size)

    def segmentation(self, number: int, size: Size) -> list[list[float]] | dict[str, list[int]]:
        """The mask of an object that has one, as it stands in COCO's files."""
        return self.segments.as_coco(int(self.segment_numbers[number]), size)

    def summary(self) -> list[str]:
        """What was read and what was wrong with it, a line each."""
        masks = f"{self.has_mask.sum()} masks" if self.has_mask.any() else "no masks"
        first = (
            f"{self.file}: {len(self)} images, {len(self.labels)} objects of {len(self.class_names)} classes, {masks}"
        )
        return [first, *self.problems.lines()]


def coco_paths(root: str | os.PathLike[str], split: str) -> tuple[Path, Path]:
    """Where COCO keeps the annotations and the images of a split, `"train"` or `"val"`."""
    return Path(root, "annotations", f"instances_{split}2017.json"), Path(root, f"{split}2017")


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Looking through the millions of objects of a large file for garbage, again and again, takes most of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_no_garbage_collection()
def read_coco(
    file: str | os.PathLike[str], image_folder: str | os.PathLike[str], class_names: Sequence[str] | None = None
) -> CocoAnnotations:
    """Reads and checks a dataset.

    Args:
        file: The annotations.
        image_folder: What the file names in it are relative to.
        class_names: Of each label, those of the model or of the training images: categories are told by their names.
            By default the categories of the file, in the order of their ids.

    Raises:
        DatasetError: If it cannot be used; see the table above.
    """
    file, image_folder, problems = Path(file), Path(image_folder), Problems()
    data = _read_lists(file)
    categories = _read_categories(file, data["categories"], problems)
    labels = _assign_labels(file, categories, class_names)
    images = read_images(file, data["images"], problems)
    used = check_files(file, image_folder, images, problems)
    names = tuple(categories.values()) if class_names is None else tuple(class_names)
    ids = {label: category for category, label in labels.items()}
    return CocoAnnotations(
        file=file,
        image_folder=image_folder,
        class_names=names,
        category_ids=tuple(ids.get(label) for label in range(len(names))),
        image_ids=np.array(list(used), dtype=np.int64),
        file_names=tuple(image.file_name for image in used.values()),
        sizes=tuple(image.size for image in used.values()),
        problems=problems,
        **read_objects(data["annotations"], images, used, labels, problems),
    )


def _read_lists(file: Path) -> dict[str, list[Any]]:
    try:
        data = read_json(file)
    except ConfigError as error:
        raise DatasetError(str(error)) from error
    names = ("images", "annotations", "categories")
    wrong = [name for name in names if not isinstance(data, dict) or not isinstance(data.get(name), list)]
    if wrong:
        raise DatasetError(f"{file}: not in the format of COCO: {listing(wrong)} must be there and be lists")
    return {name: data[name] for name in names}


def _read_categories(file: Path, entries: list[Any], problems: Problems) -> dict[int, str]:
    """Names by id, in the order of the ids."""
    categories: list[tuple[int, str]] = []
    for place, entry in enumerate(entries):
        number = entry.get("id") if isinstance(entry, dict) else None
        if type(number) is not int:
            raise DatasetError(f"{file}: categories[{place}]: has no whole number as its id: {entry!r:.100}")
        name = entry.get("name")
        if not isinstance(name, str) or not name.strip():
            problems.add(Problem.UNNAMED_CATEGORY, f"category {number}")
            name = f"category {number}"
        categories.append((number, name))
    if not categories:
        raise DatasetError(f"{file}: categories: there are none, so there is nothing to detect")
    refuse_duplicates(file, "categories", "id", [number for number, _ in categories])
    refuse_duplicates(file, "categories", "name", [name for _, name in categories])
    return dict(sorted(categories))


def _assign_labels(file: Path, categories: Mapping[int, str], class_names: Sequence[str] | None) -> dict[int, int]:
    """Labels by category id."""
    if class_names is None:
        return {number: label for label, number in enumerate(categories)}
    labels = {name: label for label, name in enumerate(class_names)}
    unknown = [name for name in categories.values() if name not in labels]
    if unknown:
        raise DatasetError(
            f"{file}: {len(unknown)} of {len(categories)} categories are none of the {len(labels)} classes of the "
            f"model or of the training images: {listing(unknown)}"
        )
    return {number: labels[name] for number, name in categories.items()}
