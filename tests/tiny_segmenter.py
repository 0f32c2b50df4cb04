"""An UperNet that builds in milliseconds, and batches for it."""

from typing import Any

import torch

from piip.batches import ImageBatch, Size
from piip.pyramid import BackboneConfig
from piip.tasks.segmentation.upernet.fcn_head import FCNHeadConfig
from piip.tasks.segmentation.upernet.model import UperNetConfig
from piip.tasks.segmentation.upernet.uper_head import UperHeadConfig
from tiny_models import images, tiny_pyramid, tiny_vit


def tiny_segmenter(**changes: Any) -> UperNetConfig:
    """Two branches on images of 64 and 96 pixels, three classes."""
    branches = [tiny_vit(image_size=size, embed_dim=32, class_token=False) for size in (64, 96)]
    settings: dict[str, Any] = {
        "backbone": BackboneConfig(pyramid=tiny_pyramid(*branches)),
        "num_classes": 3,
        "decode_head": UperHeadConfig(channels=32),
        "auxiliary_head": FCNHeadConfig(channels=32),
    }
    return UperNetConfig(**settings | changes)


def tiny_batch(*sizes: Size, padded: Size = (96, 128), seed: int = 0) -> ImageBatch:
    """Images of these sizes, twice as large before they were resized; zeros beyond them."""
    pixels = torch.zeros(len(sizes), 3, *padded)
    for image, (height, width) in enumerate(sizes):
        pixels[image, :, :height, :width] = images(3, height, width, seed=seed + image)
    return ImageBatch(pixels, sizes, tuple((2 * height, 2 * width) for height, width in sizes))
