"""Cutting regions of interest out of a feature pyramid (RoIAlign: Mask R-CNN, arXiv 1703.06870, section 3)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

_FINEST = 56  # pixels: a region with sides of twice as many goes to the second map


def batch_boxes(boxes: Sequence[Tensor]) -> Tensor:
    """Boxes (N, 4) of each image as regions (sum of N, 5), with the number of the image before each box."""
    return torch.cat([torch.cat((torch.full_like(box[:, :1], image), box), dim=1) for image, box in enumerate(boxes)])


def assign_levels(boxes: Tensor, num_levels: int) -> Tensor:
    """The map of the pyramid for each box (N, 4), by its size: (N,), int64 (FPN, arXiv 1612.03144, equation 1)."""
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    return (side / _FINEST + 1e-6).log2().floor().clamp(0, num_levels - 1).long()


def pool_regions(features: Sequence[Tensor], strides: Sequence[int], regions: Tensor, size: int) -> Tensor:
    """Resample each region to a grid of the same size, from the map that fits it.

    Each cell averages as many samples as the region has features there. In float32, because a half would put the
    corners of regions pixels away. Waits for the device once for each map.

    Args:
        features: maps (B, C, H, W), finest first.
        strides: of the maps, in pixels.
        regions: (N, 5), of `batch_boxes`, in pixels.
        size: cells along the sides of the grid.

    Returns:
        (N, C, size, size), of the features' type.
    """
    levels = assign_levels(regions[:, 1:], len(features))
    pooled = features[0].new_zeros((len(regions), features[0].shape[1], size, size))
    for level, (feature, stride) in enumerate(zip(features, strides, strict=True)):
        chosen = (levels == level).nonzero().squeeze(1)
        grids = roi_align(feature.float(), regions[chosen], size, 1 / stride, sampling_ratio=0, aligned=True)
        pooled = pooled.index_copy(0, chosen, grids.to(pooled.dtype))
    return pooled
