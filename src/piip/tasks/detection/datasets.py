"""Where the files of a dataset are: COCO's own layout, or any files that a description names."""

from dataclasses import dataclass
from pathlib import Path

from piip.config import load_config, nearest
from piip.tasks.detection.checks import DatasetError
from piip.tasks.detection.coco import coco_paths


@dataclass(frozen=True, kw_only=True)
class SplitFiles:
    """The files of one split, in the format of COCO.

    Attributes:
        annotations: the annotation file.
        images: the folder that the file names in it are relative to.
    """

    annotations: Path
    images: Path


@dataclass(frozen=True, kw_only=True)
class DatasetFiles:
    """What a description of a dataset holds, as JSON; paths are relative to it.

    Attributes:
        train: images to train on; None where there are none.
        val: held-out images; None where there are none.
    """

    train: SplitFiles | None = None
    val: SplitFiles | None = None


def find_split(data: Path, split: str) -> tuple[Path, Path]:
    """The annotation file and the image folder of a split.

    Args:
        data: a folder in COCO's layout (`annotations/instances_train2017.json` and `train2017/`, likewise for other
            splits), or a JSON file with `DatasetFiles`, such as `{"train": {"annotations": "boxes.json", "images":
            "photos"}}`.
        split: `train`, `val`, or in COCO's layout any other.

    Raises:
        DatasetError: when there is no such folder or file, or it does not have the split.
        ConfigError: when the description cannot be read, naming file and field.
    """
    if data.is_dir():
        return coco_paths(data, split)
    if not data.is_file():
        raise DatasetError(
            f"'{data}' is neither a folder in COCO's layout nor a JSON file that names annotations and images"
        )
    files = load_config(DatasetFiles, data)
    found: dict[str, SplitFiles] = {
        name: own for name, own in (("train", files.train), ("val", files.val)) if own is not None
    }
    if split not in found:
        raise DatasetError(f"{data}: has no split {split!r}{nearest(split, list(found)) if found else ''}")
    own = found[split]
    return data.parent / own.annotations, data.parent / own.images
