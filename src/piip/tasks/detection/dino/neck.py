"""The channel mapper: maps of a backbone, and coarser ones, in the width of a transformer."""

from collections.abc import Sequence

from torch import Tensor, nn

_GROUPS = 32


class ConvNorm(nn.Module):
    """A convolution and a group norm."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
        self.norm = nn.GroupNorm(_GROUPS, channels)
        nn.init.xavier_uniform_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, channels, H, W)."""
        return self.norm(self.conv(x))


class ChannelMapper(nn.Module):
    """Brings maps to one width, and makes further ones of half the size each; the first of them of the last map.

    Args:
        in_channels: of the backbone's maps, finest first.
        channels: of all maps that it gives.
        num_levels: maps that it gives.

    Raises:
        ValueError: when there are fewer of them than the backbone gives, or none.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, num_levels: int) -> None:
        super().__init__()
        if not 1 <= len(in_channels) <= num_levels:
            raise ValueError(f"transformer.num_levels: {num_levels}, but the backbone gives {len(in_channels)} maps")
        self.maps = nn.ModuleList(ConvNorm(width, channels, 1) for width in in_channels)
        widths = [in_channels[-1], *(channels for _ in range(num_levels))]
        self.extra = nn.ModuleList(
            ConvNorm(width, channels, 3, stride=2) for width in widths[: num_levels - len(in_channels)]
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Compute the maps (B, channels, H, W), finest first, from the backbone's (B, C, H, W)."""
        maps = [layer(feature) for layer, feature in zip(self.maps, features, strict=True)]
        x = features[-1]
        for layer in self.extra:
            x = layer(x)
            maps.append(x)
        return maps
