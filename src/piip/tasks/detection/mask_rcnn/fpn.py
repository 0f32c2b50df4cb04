"""The feature pyramid network (arXiv 1612.03144)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from piip.config import check_fields


@dataclass(frozen=True, kw_only=True)
class FPNConfig:
    """A feature pyramid network.

    Attributes:
        channels: of all its maps.
        num_levels: maps it gives. Those beyond the backbone's are the last one, every second cell of it.
    """

    channels: int = 256
    num_levels: int = 5

    def __post_init__(self) -> None:
        """Refuse a network without channels."""
        check_fields(self, "fpn.")
        if self.channels < 1:
            raise ValueError(f"fpn.channels: expected at least 1, got {self.channels}")

    def strides(self, strides: Sequence[int]) -> tuple[int, ...]:
        """The strides of its maps, for a backbone with these strides."""
        extra = self.num_levels - len(strides)
        return (*strides, *(strides[-1] * 2**level for level in range(1, extra + 1)))

    def build(self, in_channels: Sequence[int]) -> "FPN":
        """The network for maps of these channels, finest first.

        Raises:
            ValueError: when there are more of them than it has levels, or none.
        """
        if not 1 <= len(in_channels) <= self.num_levels:
            raise ValueError(f"fpn.num_levels: {self.num_levels}, but the backbone gives {len(in_channels)} maps")
        return FPN(self, in_channels)


class FPN(nn.Module):
    """Brings maps to one width, adds to each what the coarser ones know, and smooths the sums."""

    def __init__(self, config: FPNConfig, in_channels: Sequence[int]) -> None:
        super().__init__()
        self.num_levels = config.num_levels
        self.lateral = nn.ModuleList(nn.Conv2d(channels, config.channels, 1) for channels in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(config.channels, config.channels, 3, padding=1) for _ in in_channels)
        for conv in (*self.lateral, *self.output):
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the maps (B, channels, H, W), finest first, from the backbone's (B, C, H, W)."""
        sums = [lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)]
        for level in range(len(sums) - 1, 0, -1):
            finer = sums[level - 1]
            sums[level - 1] = finer + F.interpolate(sums[level], size=finer.shape[-2:], mode="nearest")
        maps = [output(feature) for output, feature in zip(self.output, sums, strict=True)]
        while len(maps) < self.num_levels:
            maps.append(F.max_pool2d(maps[-1], kernel_size=1, stride=2))
        return tuple(maps)
