"""Small datasets of images and masks, for tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("road", "sky", "tree")
PALETTE = ((128, 64, 128), (70, 130, 180), (10, 140, 20))


def labels(number: int, size: tuple[int, int] = (24, 32), num_classes: int = 3) -> NDArray[np.uint8]:
    """Blocks of labels, and a corner that is ignored."""
    generator = np.random.default_rng(number)
    blocks = generator.integers(num_classes, size=(-(-size[0] // 8), -(-size[1] // 8)), dtype=np.uint8)
    found = blocks.repeat(8, axis=0).repeat(8, axis=1)[: size[0], : size[1]]
    found[:3, :3] = 255
    return found


def save(path: Path, pixels: NDArray[Any], palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette([part for colour in PALETTE for part in colour] + 253 * [0, 0, 0])
    image.save(path)


def write_masks(root: Path, *, num_train: int = 4, num_val: int = 3, **changes: Any) -> Path:
    """A dataset of three classes whose images tell their labels by the red value; returns its file."""
    number = 0
    for split, count in (("train", num_train), ("val", num_val)):
        for _ in range(count):
            found = labels(number)
            image = np.zeros((*found.shape, 3), dtype=np.uint8)
            image[..., 0] = np.where(found == 255, 0, 60 * found + 60)
            save(root / split / "photos" / f"{number}.png", image)
            save(root / split / "labels" / f"{number}.png", found)
            number += 1
    splits = {split: {"images": f"{split}/photos", "masks": f"{split}/labels"} for split in ("train", "val")}
    content = {"class_names": CLASSES, "palette": PALETTE, "splits": splits, **changes}
    file = root / "dataset.json"
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))
    return file
