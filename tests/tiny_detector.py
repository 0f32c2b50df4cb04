"""A Mask R-CNN that builds in milliseconds, and batches for it."""

from typing import Any

import torch

from piip.batches import ImageBatch, Size
from piip.pyramid import BackboneConfig
from piip.tasks.detection.mask_rcnn.box_head import BoxHeadConfig
from piip.tasks.detection.mask_rcnn.fpn import FPNConfig
from piip.tasks.detection.mask_rcnn.mask_head import MaskHeadConfig
from piip.tasks.detection.mask_rcnn.model import MaskRCNNConfig
from piip.tasks.detection.structures import Target
from tiny_models import images, tiny_pyramid, tiny_vit


def tiny_detector(**changes: Any) -> MaskRCNNConfig:
    """Two branches on images of 64 and 96 pixels, three classes."""
    branches = [tiny_vit(image_size=size, embed_dim=32, class_token=False) for size in (64, 96)]
    settings: dict[str, Any] = {
        "backbone": BackboneConfig(pyramid=tiny_pyramid(*branches)),
        "num_classes": 3,
        "fpn": FPNConfig(channels=32),
        "box_head": BoxHeadConfig(hidden_dim=64),
        "mask_head": MaskHeadConfig(channels=32, num_convs=1),
    }
    return MaskRCNNConfig(**settings | changes)


def tiny_batch(*sizes: Size, padded: Size = (96, 128), seed: int = 0) -> ImageBatch:
    """Images of these sizes, twice as large before they were resized; zeros beyond them."""
    pixels = torch.zeros(len(sizes), 3, *padded)
    for image, (height, width) in enumerate(sizes):
        pixels[image, :, :height, :width] = images(3, height, width, seed=seed + image)
    return ImageBatch(pixels, sizes, tuple((2 * height, 2 * width) for height, width in sizes))


def target(*boxes: tuple[float, float, float, float], labels: tuple[int, ...] = (), padded: Size = (96, 128)) -> Target:
    """Objects that fill their boxes; of class 0 if not told."""
    corners = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    masks = torch.zeros(len(boxes), *padded, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, corners.round().int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    return Target(corners, torch.tensor(labels or (0,) * len(boxes), dtype=torch.int64), masks)
