"""Where the annotations and the images of a detection dataset are: COCO's own layout, or a file that names others."""

from dataclasses import dataclass
from pathlib import Path

from piip.config import ConfigError, check_fields, from_dict, nearest, read_json
from piip.problems import DatasetError
from piip.tasks.detection.coco import coco_paths


@dataclass(frozen=True, kw_only=True)
class SplitFiles:
    """One split of a dataset, as a dataset file names it.

    Attributes:
        annotations: JSON file in the format of COCO.
        images: Folder that the file names in it are relative to.
    """

    annotations: Path
    images: Path

    def __post_init__(self) -> None:
        check_fields(self)


def find_split(data: Path, split: str) -> tuple[Path, Path]:
    """Finds the annotations and the image folder of a split.

    Args:
        data: A folder in COCO's layout, with `annotations/instances_{split}2017.json` and `{split}2017/`. Or a JSON
            file `{"train": {"annotations": "a.json", "images": "folder"}, "val": {...}}`, with paths relative to it.
        split: `"train"`, `"val"` or, in a JSON file, any other name.

    Raises:
        DatasetError: If there is no such split; the message names the file and the field.
    """
    if data.is_dir():
        annotations, images = coco_paths(data, split)
        if not annotations.is_file():
            raise DatasetError(
                f"'{data}': has no {annotations.relative_to(data)}; name a folder in the layout of COCO, or a JSON "
                f"file that names the annotations and images of '{split}'"
            )
        return annotations, images
    try:
        files = _read_split(data, split)
    except ConfigError as error:
        raise DatasetError(str(error)) from error
    return data.parent / files.annotations, data.parent / files.images


def _read_split(file: Path, split: str) -> SplitFiles:
    splits = read_json(file)
    if not isinstance(splits, dict):
        raise ConfigError(f"{file}: expected the splits of a dataset by name, got a {type(splits).__name__}")
    if split not in splits:
        raise ConfigError(
            f'{file}: has no split {split!r}; expected {{"{split}": {{"annotations": FILE, "images": FOLDER}}}}'
            f"{nearest(split, list(splits)) if splits else ''}"
        )
    return from_dict(SplitFiles, splits[split], where=f"{file}: {split}")
