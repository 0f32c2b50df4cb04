"""ConvNeXt (arXiv 2201.03545)."""

from collections.abc import Iterator
from dataclasses import dataclass

from timm.layers import DropPath, LayerScale
from torch import Tensor, nn

from piip.branches.base import Tokens
from piip.branches.layers import Mlp
from piip.branches.staged import StagedBranch, StagedConfig, rising_drop_path

_STEM = 4  # stride of the embedding


@dataclass(frozen=True, kw_only=True)
class ConvNeXtConfig(StagedConfig):
    """A ConvNeXt as a branch of a pyramid, beside `StagedConfig`.

    Its blocks come at several widths. Between those of one width and the next stands a layer that halves the map; it
    counts as a block in `stages`, which need not end where a width does. `drop_path` rises linearly from 0 over the
    other blocks.

    Attributes:
        depths: blocks of each width, without the layers between.
        widths: channels of the map, one for each of `depths`.
        layer_scale: initial value of the layer scales; None for a model without them.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    layer_scale: float | None = 1e-6

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            ValueError: naming the fields and their values.
        """
        super().__post_init__()
        if not self.depths or len(self.depths) != len(self.widths) or min(*self.depths, *self.widths) < 1:
            raise ValueError(
                f"depths: need one of each depths and widths for each width, at least 1; got depths {self.depths}, "
                f"widths {self.widths}"
            )
        self.check_blocks(self.depth)
        if self.image_size < self.strides[-1]:
            raise ValueError(f"image_size: {self.image_size} pixels are less than one cell of {self.strides[-1]}")

    @property
    def depth(self) -> int:
        """Number of blocks, with the layers that halve the map."""
        return sum(self.depths) + len(self.depths) - 1

    @property
    def _scales(self) -> tuple[int, ...]:
        """How often the map has been halved after each stage."""
        halvings = [sum(self.depths[:scale]) + scale - 1 for scale in range(1, len(self.depths))]
        return tuple(sum(end > halving for halving in halvings) for end in self.stage_ends)

    @property
    def channels(self) -> tuple[int, ...]:
        """Width of the map after each stage."""
        return tuple(self.widths[scale] for scale in self._scales)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the branch's image for each cell of the map, after each stage."""
        return tuple(_STEM * 2**scale for scale in self._scales)

    @property
    def class_token(self) -> bool:
        """There is none."""
        return False

    def make_final_norm(self) -> nn.Module:
        """A norm for a head on this branch."""
        return _norm(self.channels[-1])

    def build(self) -> "ConvNeXt":
        """The network, with freshly initialised weights."""
        return ConvNeXt(self)


class ConvNeXt(StagedBranch):
    """A ConvNeXt without head, in stages."""

    def __init__(self, config: ConvNeXtConfig) -> None:
        super().__init__(config)
        self.config = config
        self.patch_embed = _Reduction(config.in_channels, config.widths[0], _STEM)
        self.embed_norm = _norm(config.widths[0])
        self.blocks = nn.ModuleList(_make_blocks(config))

    @property
    def depth(self) -> int:
        """None that count: the released models train all layers of a ConvNeXt at one rate."""
        return 0

    def layer_of(self, parameter: str) -> int:
        """No parameter is in a layer that counts."""
        del parameter
        return 0

    def embed(self, images: Tensor) -> Tokens:
        """Turn images (B, C, H, W) into maps of a quarter of their size; pixels beyond whole cells are left out.

        Raises:
            ValueError: for images that the last stage would have no cell for.
        """
        stride = self.config.strides[-1]
        if any(side < stride for side in images.shape[-2:]):
            raise ValueError(
                f"images: a ConvNeXt branch with cells of {stride} pixels would see {tuple(images.shape[-2:])} pixels; "
                f"give the pyramid a larger image"
            )
        return Tokens(self.embed_norm(self.patch_embed(images.permute(0, 2, 3, 1))))

    def run_stage(self, index: int, tokens: Tokens) -> Tokens:
        """Run the blocks of stage `index` on the map."""
        return Tokens(self._run(index, tokens.map))


class ConvNeXtBlock(nn.Module):
    """A depthwise 7x7 convolution and an MLP, on a residual path.

    Args:
        dim: width of the map.
        layer_scale: initial value of the layer scale; None for none.
        drop_path: probability of skipping the path of a sample in training.
    """

    def __init__(self, dim: int, *, layer_scale: float | None, drop_path: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = _norm(dim)
        self.mlp = Mlp(dim, 4 * dim, nn.GELU)
        self.ls = nn.Identity() if layer_scale is None else LayerScale(dim, init_values=layer_scale)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        _reset(self.dwconv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        mixed = self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.drop_path(self.ls(self.mlp(self.norm(mixed))))


class Downsampling(nn.Sequential):
    """A norm, and a convolution that halves the map (B, H, W, C); an odd last row or column is left out."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm = _norm(dim)
        self.reduction = _Reduction(dim, out_dim, 2)


class _Reduction(nn.Conv2d):
    """A convolution of channels-last maps whose kernels touch, and do not overlap."""

    def __init__(self, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__(in_channels, out_channels, size, stride=size)
        _reset(self)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _make_blocks(config: ConvNeXtConfig) -> Iterator[nn.Module]:
    rates = iter(rising_drop_path(config.drop_path, sum(config.depths)))
    for scale, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True)):
        if scale:
            yield Downsampling(config.widths[scale - 1], width)
        for _ in range(depth):
            yield ConvNeXtBlock(width, layer_scale=config.layer_scale, drop_path=next(rates))


def _norm(dim: int) -> nn.Module:
    return nn.LayerNorm(dim, eps=1e-6)


def _reset(convolution: nn.Conv2d) -> None:
    nn.init.normal_(convolution.weight, std=0.02)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
