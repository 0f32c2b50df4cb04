"""The decode head of UperNet (arXiv 1807.10221, section 3.1): pooling at several scales and a fused feature pyramid."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from piip.config import check_fields
from piip.tasks.segmentation.upernet.layers import conv_block, make_classifier, resize_like


@dataclass(frozen=True, kw_only=True)
class UperHeadConfig:
    """A decode head.

    Attributes:
        channels: of all its convolutions.
        pool_scales: cells along the sides of the grids that the coarsest map is averaged to.
        dropout: probability of leaving out a channel before the classifier in training.
        loss_weight: what its loss is multiplied by.
    """

    channels: int = 512
    pool_scales: tuple[int, ...] = (1, 2, 3, 6)
    dropout: float = 0.1
    loss_weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a head without extent."""
        check_fields(self, "decode_head.")
        if self.channels < 1:
            raise ValueError(f"decode_head.channels: expected at least 1, got {self.channels}")
        if not self.pool_scales or min(self.pool_scales) < 1:
            raise ValueError(f"decode_head.pool_scales: expected at least one, from 1 on, got {self.pool_scales}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"decode_head.dropout: expected from 0 to less than 1, got {self.dropout}")
        if self.loss_weight <= 0:
            raise ValueError(f"decode_head.loss_weight: expected a positive number, got {self.loss_weight}")

    def build(self, in_channels: Sequence[int], num_classes: int) -> "UperHead":
        """The head on maps of these channels, finest first."""
        return UperHead(self, in_channels, num_classes)


class UperHead(nn.Module):
    """Pools the coarsest map at several scales, lets it flow down a feature pyramid, and fuses all maps."""

    def __init__(self, config: UperHeadConfig, in_channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.config = config
        *finer, coarsest = in_channels
        channels, num_scales = config.channels, len(config.pool_scales)
        self.pools = nn.ModuleList(nn.AdaptiveAvgPool2d(scale) for scale in config.pool_scales)
        self.pooled = nn.ModuleList(conv_block(coarsest, channels, 1) for _ in config.pool_scales)
        self.bottleneck = conv_block(coarsest + num_scales * channels, channels, 3)
        self.lateral = nn.ModuleList(conv_block(width, channels, 1) for width in finer)
        self.output = nn.ModuleList(conv_block(channels, channels, 3) for _ in finer)
        self.fusion = conv_block(len(in_channels) * channels, channels, 3)
        self.dropout = nn.Dropout2d(config.dropout)
        self.classifier = make_classifier(channels, num_classes)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute logits (B, num_classes, H, W) of the finest map's size, from the backbone's maps, finest first."""
        return self.classifier(self.dropout(self.fuse(features)))

    def fuse(self, features: Sequence[Tensor]) -> Tensor:
        """The features (B, channels, H, W) that are classified."""
        sums = [lateral(feature) for lateral, feature in zip(self.lateral, features[:-1], strict=True)]
        sums.append(self._pool(features[-1]))
        for level in range(len(sums) - 1, 0, -1):
            sums[level - 1] = sums[level - 1] + resize_like(sums[level], sums[level - 1])
        maps = [output(feature) for output, feature in zip(self.output, sums[:-1], strict=True)]
        maps.append(sums[-1])
        return self.fusion(torch.cat([resize_like(one, maps[0]) for one in maps], dim=1))

    def _pool(self, x: Tensor) -> Tensor:
        pooled = [conv(pool(x)) for pool, conv in zip(self.pools, self.pooled, strict=True)]
        return self.bottleneck(torch.cat([x, *(resize_like(one, x) for one in pooled)], dim=1))
