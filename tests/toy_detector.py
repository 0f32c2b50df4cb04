"""A detector that needs no training: it finds plain rectangles by their colours, not quite where they are."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from coco_data import annotation
from piip.batches import ImageBatch
from piip.tasks.detection.augmentation import DetectionPreprocessConfig
from piip.tasks.detection.structures import Detections

SIZE = (60, 80)
NUM_CLASSES = 3
PREPROCESS = DetectionPreprocessConfig(scale=(80, 60), mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3, size_divisor=16)


class ToyDetector(nn.Module):
    """Tells class, score and error of each rectangle by its red value; remembers the images that it saw.

    Args:
        with_masks: whether it finds ellipses in the boxes.
    """

    def __init__(self, with_masks: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.with_masks = with_masks
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: ImageBatch) -> list[Detections]:
        assert not self.training
        results = []
        for pixels, (height, width), original in zip(images.pixels, images.sizes, images.original_sizes, strict=True):
            self.seen.append((height, width))
            results.append(self._find(pixels[0, :height, :width], original))
        return results

    def _find(self, red: Tensor, original: tuple[int, int]) -> Detections:
        boxes, scores, labels = [], [], []
        for value in red.round().unique().tolist():
            if value >= 10:
                rows, columns = torch.where(red.round() == value)
                error = (value * 7) % 13 - 4
                corners = [columns.min() + error / 4, rows.min(), columns.max() + 1, rows.max() + 1 + error / 3]
                boxes.append([float(corner) for corner in corners])
                scores.append((value * 37) % 101 / 101)
                labels.append(int(value) % NUM_CLASSES)
        order = sorted(range(len(scores)), key=lambda place: -scores[place])
        grid = torch.linspace(-1, 1, 28)
        ellipse = ((grid**2 + grid[:, None] ** 2) < 1).float()
        return Detections(
            boxes=torch.tensor([boxes[place] for place in order]).reshape(-1, 4),
            scores=torch.tensor([scores[place] for place in order]),
            labels=torch.tensor([labels[place] for place in order], dtype=torch.int64),
            mask_probs=ellipse.expand(len(order), 28, 28) if self.with_masks else None,
            image_size=original,
        )


def write_rectangles(root: Path, num_images: int) -> tuple[Path, Path]:
    """A dataset that `ToyDetector` finds; returns annotation file and image folder."""
    generator = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(num_images):
        pixels = np.zeros((*SIZE, 3), dtype=np.uint8)
        for column in range(generator.integers(0, 4)):
            width, height = generator.integers(6, 20), generator.integers(6, 50)
            x, y = 20 * column, generator.integers(0, SIZE[0] - height)
            value = 10 + 3 * len(annotations) % 240
            pixels[y : y + height, x : x + width] = value
            box = [float(side) for side in (x, y, width, height)]
            annotations.append(annotation(len(annotations) + 1, number + 5, value % NUM_CLASSES + 1, box))
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
        images.append({"id": number + 5, "file_name": f"{number}.png", "height": SIZE[0], "width": SIZE[1]})
    categories = [{"id": label + 1, "name": name} for label, name in enumerate("abc")]
    file = root / "annotations.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file, root / "images"
