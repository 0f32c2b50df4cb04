"""Where the images and masks of a dataset are: in the folders of ADE20K, or in others that a file names."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from piip.config import ConfigError, check_fields, load_config, nearest
from piip.problems import DatasetError
from piip.tasks.segmentation.ade20k import ADE20K_MASKS
from piip.tasks.segmentation.coding import MaskCoding

DATASET_NAME = "dataset.json"
"""The file in a dataset's folder that tells what is in it."""

_ADE20K_SPLITS = {"train": "training", "val": "validation"}


@dataclass(frozen=True, kw_only=True)
class SplitFolders:
    """One split of a dataset: an image and its mask have the same name, but for its ending, below these folders.

    Attributes:
        images: Folder of the images.
        masks: Folder of the masks.
        image_suffix: What the names of images end with, where it is more than a file type, or the folder holds other
            images too; None for any.
        mask_suffix: What stands in its place in the names of masks.
    """

    images: Path
    masks: Path
    image_suffix: str | None = None
    mask_suffix: str = ".png"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.image_suffix == "" or not self.mask_suffix:
            raise ValueError(f"image_suffix={self.image_suffix!r}, mask_suffix={self.mask_suffix!r} must not be empty")


@dataclass(frozen=True, kw_only=True)
class DatasetFile(MaskCoding):
    """A dataset of images and masks, as a JSON file tells of it.

    Attributes:
        splits: By name, `train`, `val` or any other; with paths relative to the file.
    """

    splits: Mapping[str, SplitFolders]


def find_split(data: Path, split: str) -> tuple[SplitFolders, MaskCoding]:
    """Finds the images and masks of a split, and what the masks hold.

    Args:
        data: A folder in the layout of ADE20K, with `images/training`, `annotations/training`, and `validation` in
            both; a folder with a file `dataset.json`; or such a file, `DatasetFile` as JSON.
        split: `"train"`, `"val"` or, in a file, any other name.

    Raises:
        DatasetError: If there is no such split; the message names the file and the field.
    """
    file = data / DATASET_NAME if data.is_dir() else data
    if data.is_dir() and not file.is_file():
        return _ade20k_folders(data, split), ADE20K_MASKS
    try:
        found = load_config(DatasetFile, file)
    except ConfigError as error:
        raise DatasetError(str(error)) from error
    if split not in found.splits:
        raise DatasetError(
            f'{file}: splits: has no {split!r}; expected {{"{split}": {{"images": FOLDER, "masks": FOLDER}}}}'
            f"{nearest(split, list(found.splits)) if found.splits else ''}"
        )
    folders = found.splits[split]
    return replace(folders, images=file.parent / folders.images, masks=file.parent / folders.masks), found


def _ade20k_folders(data: Path, split: str) -> SplitFolders:
    name = _ADE20K_SPLITS.get(split, split)
    folders = SplitFolders(images=data / "images" / name, masks=data / "annotations" / name)
    for folder in (folders.images, folders.masks):
        if not folder.is_dir():
            raise DatasetError(
                f"'{data}': has no {folder.relative_to(data)}; name a folder in the layout of ADE20K, one with a file "
                f"{DATASET_NAME}, or such a file, which names the folders of images and masks and the classes"
            )
    return folders
