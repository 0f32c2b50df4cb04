"""The images of a dataset in the format of COCO: which of them can be used."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from piip.batches import Size
from piip.images import ImageError, image_sizes
from piip.problems import DatasetError, Problems, refuse_duplicates
from piip.tasks.detection.checks import Problem

MAX_ID = 2**63
"""Ids are kept as int64."""

_READERS = 16  # threads that open files: on a network file system each waits most of the time


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """What the annotation file says of an image."""

    file_name: str
    size: Size


def read_images(file: Path, entries: list[Any], problems: Problems) -> dict[int, ImageEntry]:
    """Reads what the file says of the images, by their ids.

    Raises:
        DatasetError: If several have one id.
    """
    ids, images = [], {}
    for place, entry in enumerate(entries):
        match entry:
            case {"id": int(number), "file_name": str(name), "height": int(height), "width": int(width)}:
                if name and min(height, width) > 0 and abs(number) < MAX_ID:
                    ids.append(number)
                    images[number] = ImageEntry(name, (height, width))
                    continue
        problems.add(Problem.UNREADABLE_IMAGE, f"images[{place}]")
    refuse_duplicates(file, "images", "id", ids)
    return images


def check_files(file: Path, folder: Path, images: dict[int, ImageEntry], problems: Problems) -> dict[int, ImageEntry]:
    """Finds the images that can be used, by listing each folder once.

    Raises:
        DatasetError: If there is no folder, or one that cannot be read, or no image that can be used.
    """
    if not folder.is_dir():
        raise DatasetError(f"'{folder}' is no folder; it must hold the images of {file}")
    if not images:
        raise DatasetError(f"{file}: images: there is none that can be used ({'; '.join(problems.lines()) or 'none'})")
    present: dict[str, frozenset[str]] = {}
    for parent in {os.path.split(image.file_name)[0] for image in images.values()}:  # far faster than paths
        present[parent] = _names_in(folder / parent)
    used = {}
    for number, image in images.items():
        parent, name = os.path.split(image.file_name)
        if name in present[parent]:
            used[number] = image
        else:
            problems.add(Problem.MISSING_FILE, f"{image.file_name!r:.100}")
    if not used:
        raise DatasetError(f"{file}: none of its {len(images)} images is in '{folder}'; name the folder that has them")
    return _check_sizes(file, folder, used, problems)


def _names_in(folder: Path) -> frozenset[str]:
    """What is in a folder; nothing where there is none, or can be none of this name."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except PermissionError as error:
        raise DatasetError(f"'{folder}' cannot be read: {error.strerror}") from error
    except (OSError, ValueError):
        return frozenset()


def _check_sizes(file: Path, folder: Path, images: dict[int, ImageEntry], problems: Problems) -> dict[int, ImageEntry]:
    """Leaves out the images whose file begins like none, or like one of another size."""

    def sizes_of(image: ImageEntry) -> set[Size]:
        try:
            return set(image_sizes(folder / image.file_name))
        except ImageError:
            return set()

    with ThreadPoolExecutor(_READERS) as pool:
        all_sizes = list(pool.map(sizes_of, images.values(), chunksize=256))
    wrong = set()
    for (number, image), sizes in zip(images.items(), all_sizes, strict=True):
        if image.size not in sizes:
            wrong.add(number)
            found = " or ".join(f"{height} x {width}" for height, width in sorted(sizes)) or "unreadable"
            problems.add(
                Problem.WRONG_SIZE, f"{image.file_name!r:.100}: {found}, not {image.size[0]} x {image.size[1]} pixels"
            )
    if len(wrong) == len(images):
        raise DatasetError(f"{file}: '{folder}' holds no images that fit it: {problems.lines()[-1]}")
    return {number: image for number, image in images.items() if number not in wrong}
