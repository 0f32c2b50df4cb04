"""A backbone for dense prediction: a pyramid, its merged branches, and maps of several strides made of them."""

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from timm.layers import LayerNorm2d
from torch import Tensor, nn

from piip.checks import check_type
from piip.config import check_fields
from piip.pyramid.merging import GROUPS, ConvMergingConfig
from piip.pyramid.network import PyramidConfig

_SCALES = (4, 2, 1, 0.5)


@dataclass(frozen=True, kw_only=True)
class LevelConfig:
    """Where one map of a backbone is from.

    Attributes:
        stage: after which interaction it is taken, counted from 0; -1 is the last one, -2 the one before it.
        scale: how much larger it is than the merged map: 4, 2, 1 or 1/2.
    """

    stage: int = -1
    scale: float

    def __post_init__(self) -> None:
        """Refuse other scales.

        Raises:
            ValueError: naming the field and its value.
        """
        check_fields(self, "levels.")
        if self.scale not in _SCALES:
            raise ValueError(f"levels.scale: expected 4, 2, 1 or 1/2, got {self.scale}")


def simple_pyramid(*scales: float) -> tuple[LevelConfig, ...]:
    """Levels that are all made of the last map, as in ViTDet (arXiv 2203.16527)."""
    return tuple(LevelConfig(scale=scale) for scale in scales)


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """A pyramid with maps for a detector or segmentor, finest first.

    Attributes:
        pyramid: the branches and their interactions.
        merging: how the branches become one map, with weights of its own for each stage that a level is of; None for
            the map of the only branch.
        levels: the maps. The paper's detectors take four of the last stage, at 4, 2, 1 and 1/2 of its size; those with
            ConvNeXt branches take maps of four stages.
        upsampling_norm: the norm between the two transposed convolutions of scale 4: GroupNorm in the official
            pyramids, LayerNorm over the channels of each cell in the official models of one branch.
    """

    pyramid: PyramidConfig
    merging: ConvMergingConfig | None = field(default_factory=ConvMergingConfig)
    levels: tuple[LevelConfig, ...] = simple_pyramid(4, 2, 1, 0.5)
    upsampling_norm: Literal["groupnorm", "layernorm"] = "groupnorm"

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            ValueError: naming the fields and their values.
        """
        check_fields(self)
        branches, num_stages = len(self.pyramid.branches), self.pyramid.num_stages
        if self.merging is None and branches > 1:
            raise ValueError(f"merging: {branches} branches cannot become one map without it, got None")
        if not self.levels:
            raise ValueError("levels: a backbone needs at least one")
        for number, level in enumerate(self.levels):
            if not -num_stages <= level.stage < num_stages:
                raise ValueError(
                    f"levels[{number}].stage: {level.stage} is none of the {num_stages} stages, counted from 0"
                )
        for number, (channels, level) in enumerate(zip(self.channels, self.levels, strict=True)):
            if level.scale == 4 and self.upsampling_norm == "groupnorm" and channels % GROUPS:
                raise ValueError(
                    f"levels[{number}].scale: 4 normalises in groups of {GROUPS}, which do not divide the width "
                    f"{channels}; set upsampling_norm='layernorm'"
                )
        strides = _whole(self._finest_strides)
        if not all(finer < coarser for finer, coarser in pairwise(strides)):
            raise ValueError(f"levels: go from the finest map to the coarsest, but their strides are {strides}")

    @property
    def stages(self) -> tuple[int, ...]:
        """After which stage the map of each level is taken, counted from 0."""
        return tuple(level.stage % self.pyramid.num_stages for level in self.levels)

    @property
    def channels(self) -> tuple[int, ...]:
        """Width of each map."""
        return tuple(self._merged_channels(stage) for stage in self.stages)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image for each cell of each map.

        Raises:
            ValueError: when one is not a whole number, as where the largest image is an enlarged one.
        """
        enlarged = Fraction(self.pyramid.branches[self.pyramid.finest - 1].image_size, self.pyramid.image_size)
        return _whole([float(Fraction(stride) / enlarged) for stride in self._finest_strides])

    @property
    def _finest_strides(self) -> list[float]:
        """Pixels of the largest branch's image for each cell of each map."""
        grid = self.pyramid.branches[self.pyramid.finest - 1].strides
        return [grid[stage] / level.scale for stage, level in zip(self.stages, self.levels, strict=True)]

    def _merged_channels(self, stage: int) -> int:
        channels = self.pyramid.channels_after(stage)
        return channels[0] if self.merging is None else self.merging.width(channels)

    def build(self) -> "Backbone":
        """The network, with freshly initialised weights."""
        return Backbone(self)


class Backbone(nn.Module):
    """A pyramid whose branches are merged, and maps of several strides made of what comes out.

    Attributes:
        channels: width of each map.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        check_type("config", config, BackboneConfig, "a BackboneConfig")
        self.config = config
        self.channels = config.channels
        self.pyramid = config.pyramid.build()
        self.merging = nn.ModuleDict()
        if config.merging is not None:
            for stage in sorted(set(config.stages)):
                self.merging[str(stage)] = config.merging.build(config.pyramid.channels_after(stage))
        self.levels = nn.ModuleList(
            make_level(level.scale, channels, config.upsampling_norm)
            for level, channels in zip(config.levels, config.channels, strict=True)
        )

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image for each cell of each map; see `BackboneConfig.strides`."""
        return self.config.strides

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps (B, channels, height, width) of images (B, 3, H, W), finest first.

        A stride that does not divide the image leaves pixels out on the right and at the bottom.

        Raises:
            ValueError: when a branch's image would be smaller than its patches.
        """
        intermediates = self.pyramid.forward_intermediates(images, set(self.config.stages))
        finest = self.config.pyramid.finest - 1
        merged = {}
        for stage, tokens in intermediates.items():
            height, width = tokens[finest].map.shape[1:3]
            merged[stage] = (
                self.merging[str(stage)](tokens, height, width)
                if self.merging
                else tokens[finest].map.permute(0, 3, 1, 2)
            )
        return tuple(level(merged[stage]) for level, stage in zip(self.levels, self.config.stages, strict=True))


def _whole(strides: list[float]) -> tuple[int, ...]:
    if not all(stride.is_integer() for stride in strides):
        raise ValueError(f"levels: strides must be whole pixels, but they would be {strides}")
    return tuple(map(int, strides))


def make_level(scale: float, channels: int, norm: Literal["groupnorm", "layernorm"]) -> nn.Module:
    """What makes a map of `scale` times the size: see `BackboneConfig`."""
    if scale == 4:
        return nn.Sequential(
            nn.ConvTranspose2d(channels, channels, 2, stride=2),
            nn.GroupNorm(GROUPS, channels) if norm == "groupnorm" else LayerNorm2d(channels),
            nn.GELU(),
            nn.ConvTranspose2d(channels, channels, 2, stride=2),
        )
    if scale == 2:
        return nn.Sequential(nn.ConvTranspose2d(channels, channels, 2, stride=2))
    return nn.Identity() if scale == 1 else nn.MaxPool2d(2)
