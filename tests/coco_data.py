"""Small datasets in the format of COCO, for tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def square(x: float, y: float, side: float) -> list[list[float]]:
    """A square as a list of one polygon."""
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def annotation(number: int, image: int, category: int, box: list[float], **more: Any) -> dict[str, Any]:
    """An entry of a file, with the area and the mask of its box."""
    x, y, width, height = box
    polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
    entry = {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": width * height,
        "iscrowd": 0,
        "segmentation": [polygon],
    }
    return {name: value for name, value in {**entry, **more}.items() if value is not ...}


def dataset() -> dict[str, Any]:
    """Three images (64 x 48, 48 x 64, 64 x 48 pixels), three categories with gaps in their ids, five objects."""
    return {
        "images": [
            {"id": 9, "file_name": "a.png", "width": 64, "height": 48},
            {"id": 4, "file_name": "b.png", "width": 48, "height": 64},
            {"id": 7, "file_name": "sub/c.png", "width": 64, "height": 48},
        ],
        "categories": [{"id": 90, "name": "zebra"}, {"id": 3, "name": "cat"}, {"id": 17, "name": "dog"}],
        "annotations": [
            annotation(1, 9, 3, [5.0, 6.0, 20.0, 10.0]),
            annotation(2, 4, 90, [10.0, 20.0, 30.0, 40.0]),
            annotation(3, 9, 17, [30.0, 10.0, 10.5, 20.25]),
            annotation(
                4, 9, 3, [0.0, 0.0, 64.0, 48.0], iscrowd=1, segmentation={"size": [48, 64], "counts": [100, 2972]}
            ),
            annotation(5, 4, 17, [2.0, 2.0, 5.0, 5.0]),
        ],
    }


def write(root: Path, data: Any) -> tuple[Path, Path]:
    """Writes a dataset, and an image of noise for each entry that tells its size; returns file and folder."""
    folder = root / "images"
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for entry in data.get("images", []) if isinstance(data, dict) else []:
        if isinstance(entry, dict) and {"file_name", "height", "width"} <= entry.keys():
            path = folder / str(entry["file_name"])
            path.parent.mkdir(exist_ok=True)
            pixels = generator.integers(256, size=(max(1, entry["height"]), max(1, entry["width"]), 3), dtype=np.uint8)
            if not path.exists() and path.suffix:
                Image.fromarray(pixels).save(path)
    file = root / "annotations.json"
    file.write_text(json.dumps(data))
    return file, folder
