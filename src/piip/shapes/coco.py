"""Shapes in the layout of COCO."""

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from PIL import Image

from piip.rle import encode_rle
from piip.shapes.dataset import Split, describe, draw_splits, is_finished, partial_folder
from piip.shapes.scene import Scene, ShapesConfig


def write_coco(root: str | os.PathLike[str], config: ShapesConfig, *, num_train: int, num_val: int) -> Path:
    """Writes scenes as `root/{train,val}2017/<id>.png` and `root/annotations/instances_{train,val}2017.json`.

    Masks are run-length encoded, since polygons cannot tell holes. The folder appears when it is complete, never in
    part; `shapes.json` in it tells how it was made. If exactly this dataset is there, nothing is done.

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
    description = describe("coco", config, num_train=num_train, num_val=num_val)
    if is_finished(root, description):
        return root
    images: defaultdict[Split, list[dict[str, Any]]] = defaultdict(list)
    annotations: defaultdict[Split, list[dict[str, Any]]] = defaultdict(list)
    with partial_folder(root, description) as partial:
        for split, number, scene in draw_splits(root, config, num_train=num_train, num_val=num_val):
            folder = partial / f"{split}2017"
            folder.mkdir(exist_ok=True)
            image_id, name = number + 1, f"{number + 1:012d}.png"
            Image.fromarray(scene.image).save(folder / name, compress_level=1)
            height, width = scene.image.shape[:2]
            images[split].append({"id": image_id, "file_name": name, "height": height, "width": width})
            annotations[split] += _annotations(scene, image_id, first_id=len(annotations[split]) + 1)
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(config.class_names)]
        (partial / "annotations").mkdir()
        for split in images:
            data = {"images": images[split], "annotations": annotations[split], "categories": categories}
            (partial / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(data))
    return root


def _annotations(scene: Scene, image_id: int, first_id: int) -> list[dict[str, Any]]:
    objects = zip(scene.boxes.tolist(), scene.labels.tolist(), scene.masks, strict=True)
    return [
        {
            "id": number,
            "image_id": image_id,
            "category_id": label + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": int(mask.sum()),
            "iscrowd": 0,
            "segmentation": encode_rle(mask),
        }
        for number, ((x1, y1, x2, y2), label, mask) in enumerate(objects, first_id)
    ]
