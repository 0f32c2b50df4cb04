"""Shapes in the layout of ADE20K."""

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from piip.shapes.dataset import describe, draw_splits, is_finished, partial_folder
from piip.shapes.scene import Scene, ShapesConfig

_FOLDERS = {"train": "training", "val": "validation"}
_BACKGROUND = ("background", (90, 90, 90))
_PALETTE = (
    *((230, 75, 60), (60, 140, 230), (250, 200, 50), (70, 185, 100), (165, 95, 205), (245, 140, 45), (235, 120, 175)),
    *((60, 195, 200), (150, 110, 75), (175, 210, 70)),
)  # in the order of `SHAPE_NAMES`


def write_ade20k(root: str | os.PathLike[str], config: ShapesConfig, *, num_train: int, num_val: int) -> Path:
    """Writes scenes as `root/images/{training,validation}/<id>.png` and their masks in `root/annotations`.

    As in ADE20K, a mask holds 0 where a pixel is not labelled (here that is nowhere), and each class one after its
    label; the first class is the background. `root/dataset.json` names them and their colours. The folder appears when
    it is complete, never in part; `shapes.json` in it tells how it was made. If exactly this dataset is there, nothing
    is done.

    Args:
        root: The folder to be made.
        config: What is drawn.
        num_train: Training images.
        num_val: Held-out images.

    Returns:
        `root`.

    Raises:
        ValueError: If a split would have no image.
        FileExistsError: If `root` holds anything but this dataset.
    """
    root = Path(root)
    description = describe("ade20k", config, num_train=num_train, num_val=num_val)
    if is_finished(root, description):
        return root
    with partial_folder(root, description) as partial:
        for kind in ("images", "annotations"):
            for folder in _FOLDERS.values():
                (partial / kind / folder).mkdir(parents=True)
        for split, number, scene in draw_splits(root, config, num_train=num_train, num_val=num_val):
            path = Path(_FOLDERS[split], f"shapes_{split}_{number + 1:08d}.png")
            Image.fromarray(scene.image).save(partial / "images" / path, compress_level=1)
            Image.fromarray(_mask(scene)).save(partial / "annotations" / path, compress_level=1)
        (partial / "dataset.json").write_text(json.dumps(_dataset(config), indent=2) + "\n")
    return root


def _mask(scene: Scene) -> NDArray[np.uint8]:
    """The values of the mask: the background's is 1, and that of the first shape 2."""
    mask = np.ones(scene.image.shape[:2], dtype=np.uint8)
    for label, own in zip(scene.labels, scene.masks, strict=True):
        mask[own] = label + 2
    return mask


def _dataset(config: ShapesConfig) -> dict[str, object]:
    names = [_BACKGROUND[0], *config.class_names]
    return {
        "class_names": names,
        "palette": [_BACKGROUND[1], *_PALETTE[: config.num_classes]],
        "values": list(range(1, len(names) + 1)),
        "ignored": [0],
        "splits": {
            split: {"images": f"images/{folder}", "masks": f"annotations/{folder}"}
            for split, folder in _FOLDERS.items()
        },
    }
