"""Shapes in the layout of ImageNet."""

import os
from pathlib import Path

from PIL import Image

from piip.shapes.dataset import describe, draw_splits, is_finished, partial_folder
from piip.shapes.outlines import SHAPE_NAMES
from piip.shapes.scene import ShapesConfig


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
    description = describe("image folder", config, num_train=num_train, num_val=num_val)
    if is_finished(root, description):
        return root
    with partial_folder(root, description) as partial:
        for split, number, scene in draw_splits(root, config, num_train=num_train, num_val=num_val):
            folder = partial / split / SHAPE_NAMES[scene.labels[0]]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene.image).save(folder / f"{number:05d}.png", compress_level=1)
    return root
