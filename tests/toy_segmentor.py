"""A segmentor that needs no training: it tells labels by the red value of `mask_data`'s images, but for some."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piip.batches import ImageBatch
from piip.tasks.segmentation.augmentation import SegmentationPreprocessConfig

PREPROCESS = SegmentationPreprocessConfig(short_side=24, mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3)


class ToySegmentor(nn.Module):
    """Takes trees for sky in the left half of images; remembers the sizes of the images that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, int]] = []

    def forward(self, images: ImageBatch) -> tuple[Tensor, ...]:
        assert not self.training
        maps = []
        for pixels, (height, width), original in zip(images.pixels, images.sizes, images.original_sizes, strict=True):
            self.seen.append((height, width))
            labels = ((pixels[0, :height, :width] - 30) / 60).clamp(0, 2).floor()
            labels[:, : width // 2] = labels[:, : width // 2].clamp(max=1)
            maps.append(F.interpolate(labels[None, None], original, mode="nearest")[0, 0].long())
        return tuple(maps)
