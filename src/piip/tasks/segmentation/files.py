"""The images and masks of one split of a dataset.

| found | what is done |
|---|---|
| no such folder or file, damaged JSON, classes that contradict one another | refused |
| classes that the model does not know | refused |
| no image that has a mask | refused |
| a file that is both an image and its mask, two images with one mask | refused |
| masks of another size than their images | refused |
| undeclared values in some masks, evenly spaced, that are read at once | refused |
| what `Problem` lists | left out; counted, and the first ones named |

Names are looked up in the folders, and sizes in the first bytes of each file. What the pixels are is found out when
they are read. Training takes another image in the place of a damaged one, and leaves it out of its evaluations, with a
warning that names the file; an evaluation for its own sake, which must be one of all images, ends with an `ImageError`.
An undeclared value ends all of them: it is a mistake in what the dataset declares, and rarely in one mask alone.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from piip.batches import Size
from piip.config import listing
from piip.images import ImageError, image_sizes, images_below, read_image, stored_size
from piip.problems import DatasetError, Problems
from piip.tasks.segmentation.checks import Problem
from piip.tasks.segmentation.coding import MaskReader
from piip.tasks.segmentation.datasets import SplitFolders, find_split

_READERS = 16  # threads that open files: on a network file system each waits most of the time
_NUM_TRIED = 16  # masks that are read when the dataset is opened

Pair = tuple[str, str]
"""Paths of an image and of its mask."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationFiles:
    """Images and their masks.

    Attributes:
        folder: Of the images.
        pairs: Image and mask, by the name of the image.
        masks: Reads the masks, and knows the classes.
        problems: What was wrong.
    """

    folder: Path
    pairs: tuple[Pair, ...]
    masks: MaskReader
    problems: Problems

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.pairs)

    def read(self, number: int) -> tuple[Image.Image, NDArray[np.uint8]]:
        """Reads an image, the way round that its mask has, and the labels `(H, W)` of its pixels.

        A photo that its EXIF data turn may have been labelled as people see it, or as it is stored: the size of the
        mask tells. If both ways have the same size, it is taken as people see it.

        Raises:
            ImageError: If one of them cannot be decoded, or their sizes differ.
            MaskError: If the mask holds an undeclared value.
        """
        image_path, mask_path = self.pairs[number]
        image, labels = read_image(image_path), self.masks.read(mask_path)
        if (image.height, image.width) == labels.shape[::-1] != labels.shape:
            image = read_image(image_path, upright=False)
        if (image.height, image.width) != labels.shape:
            raise ImageError(_describe_sizes(mask_path, labels.shape, {(image.height, image.width)}))
        return image, labels

    def summary(self) -> list[str]:
        """What was found and what was wrong with it, a line each."""
        first = f"{self.folder}: {len(self)} images with masks of {len(self.masks.coding.class_names)} classes"
        return [first, *self.problems.lines()]


def open_split(data: Path, split: str, class_names: Sequence[str] | None = None) -> SegmentationFiles:
    """Finds and checks the images and masks of a split.

    Args:
        data: See `piip.tasks.segmentation.datasets.find_split`.
        split: `"train"`, `"val"` or, in a file, any other name.
        class_names: Of each label, those of the model or of the training images. By default those of the dataset.

    Raises:
        DatasetError: If it cannot be used; see the table above.
    """
    folders, coding = find_split(data, split)
    problems = Problems()
    try:
        masks = MaskReader(coding, class_names)
    except ValueError as error:
        raise DatasetError(f"{data}: {error}") from error
    pairs = _check_sizes(_find_pairs(folders, problems), problems)
    if not pairs:
        found = "; ".join(problems.lines()) or "there is none"
        raise DatasetError(f"'{folders.images}': none of its images has a mask in '{folders.masks}': {found}")
    files = SegmentationFiles(folder=folders.images, pairs=tuple(pairs), masks=masks, problems=problems)
    _try_masks(files)
    return files


def read_class_names(data: Path) -> tuple[str, ...]:
    """The names of the classes of a dataset, in the order of their labels; checks nothing else.

    Raises:
        DatasetError: If the file that tells them cannot be read.
    """
    return find_split(data, "train")[1].class_names


def _find_pairs(folders: SplitFolders, problems: Problems) -> list[Pair]:
    """The images that have a mask, in the order of their names."""
    images, masks = (_names_below(folder) for folder in (folders.images, folders.masks))
    in_one_folder = folders.images.samefile(folders.masks)
    owners: dict[str, str] = {}  # the image of each mask
    alone = []
    for name in images:
        stem = _stem(name, folders.image_suffix)
        if stem is None:
            continue
        mask = stem + folders.mask_suffix
        if mask not in masks:
            alone.append(name)
        elif in_one_folder and mask == name:
            raise DatasetError(
                f"'{folders.images / name}' is both an image and its mask, as images and masks are in one folder; add "
                f'an image_suffix, as ".jpg", which masks do not end with'
            )
        elif mask in owners:
            raise DatasetError(
                f"'{folders.images}': '{owners[mask]}' and '{name}' both have the mask '{folders.masks / mask}'; "
                f"remove one of them, or add an image_suffix that only one of them ends with"
            )
        else:
            owners[mask] = name
    for name in alone:
        if not (in_one_folder and name in owners):
            problems.add(Problem.MISSING_MASK, f"'{name}'")
    for mask in masks:
        if mask.endswith(folders.mask_suffix) and mask not in owners:
            problems.add(Problem.MISSING_IMAGE, f"'{mask}'")
    return [(str(folders.images / name), str(folders.masks / mask)) for mask, name in owners.items()]


def _stem(name: str, suffix: str | None) -> str | None:
    """The name without its ending; None where it has another one."""
    if suffix is None:
        return name.rpartition(".")[0]
    return name.removesuffix(suffix) if name.endswith(suffix) else None


def _names_below(folder: Path) -> dict[str, None]:
    """The paths of image files below a folder, relative to it, in order."""
    if not folder.is_dir():
        raise DatasetError(f"'{folder}' is no folder; it must hold images or masks")
    return dict.fromkeys(os.path.relpath(path, folder) for path in images_below(folder))


def _check_sizes(pairs: list[Pair], problems: Problems) -> list[Pair]:
    """Leaves out what cannot be opened, and refuses masks of another size than their images."""
    with ThreadPoolExecutor(_READERS) as pool:
        all_sizes = list(pool.map(_find_sizes, pairs, chunksize=256))
    readable, wrong = [], []
    for pair, sizes in zip(pairs, all_sizes, strict=True):
        if isinstance(sizes, str):
            problems.add(Problem.UNREADABLE, f"'{sizes}'")
            continue
        readable.append(pair)
        if sizes[1] not in sizes[0]:
            wrong.append(_describe_sizes(pair[1], sizes[1], sizes[0]))
    if wrong:
        raise DatasetError(f"{len(wrong)} masks have another size than their images: {listing(wrong, 3)}")
    return readable


def _find_sizes(pair: Pair) -> tuple[set[Size], Size] | str:
    """The sizes that the image may have, and that of the mask; or the path of the one that cannot be opened."""
    image, mask = pair
    try:
        sizes = image_sizes(image)
    except ImageError:
        return image
    try:
        return sizes, stored_size(mask)
    except ImageError:
        return mask


def _try_masks(files: SegmentationFiles) -> None:
    """Reads some masks, so that values which stand for nothing are told before anything is computed."""
    for number in np.unique(np.linspace(0, len(files) - 1, _NUM_TRIED).astype(int)):
        with suppress(ImageError):  # of a damaged file, which is no matter of what the masks hold
            files.masks.read(files.pairs[number][1])


def _describe_sizes(mask: str, size: tuple[int, ...], image_sizes: set[Size]) -> str:
    found = " or ".join(f"{height} x {width}" for height, width in sorted(image_sizes))
    return f"mask '{mask}' has {size[0]} x {size[1]} pixels, and its image {found}"
