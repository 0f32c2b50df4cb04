"""The settings of DINO's parts."""

from dataclasses import dataclass

from piip.config import check_fields


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """A deformable transformer (Deformable DETR, arXiv 2010.04159).

    Attributes:
        embed_dim: width of all of it.
        num_levels: maps that it looks at. Those beyond the backbone's are made of its last one.
        num_heads: attention heads.
        num_points: points that a head looks at in each map.
        mlp_dim: hidden width of the feed-forward networks.
        encoder_layers: in which the cells of the maps look at each other.
        decoder_layers: in which the queries look at the cells.
    """

    embed_dim: int = 256
    num_levels: int = 4
    num_heads: int = 8
    num_points: int = 4
    mlp_dim: int = 2048
    encoder_layers: int = 6
    decoder_layers: int = 6

    def __post_init__(self) -> None:
        """Refuse a transformer without extent, and a width that its heads and norms cannot share."""
        check_fields(self, "transformer.")
        for name in ("num_heads", "num_points", "mlp_dim", "decoder_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"transformer.{name}: expected at least 1, got {getattr(self, name)}")
        if self.encoder_layers < 0:
            raise ValueError(f"transformer.encoder_layers: expected 0 or more, got {self.encoder_layers}")
        if self.embed_dim < 1 or self.embed_dim % 32 or self.embed_dim % self.num_heads:
            raise ValueError(
                f"transformer.embed_dim: expected a multiple of num_heads ({self.num_heads}) and of 32, the groups of "
                f"the norms; got {self.embed_dim}"
            )


@dataclass(frozen=True, kw_only=True)
class DenoisingConfig:
    """The denoising queries of training (DINO, arXiv 2203.03605, section 3.3): objects, disturbed, to be found again.

    Attributes:
        num_queries: pairs of a positive and a negative query for all objects of an image; there are so many groups of
            a pair for each object as come nearest to it from below, and at least one.
        label_noise: how likely a query is told a class at random, times two.
        box_noise: how far the sides of a positive query's box may move, in halves of the box. Those of a negative one
            move further than that, by up to twice as much.
    """

    num_queries: int = 100
    label_noise: float = 0.5
    box_noise: float = 1.0

    def __post_init__(self) -> None:
        """Refuse noise that there cannot be."""
        check_fields(self, "denoising.")
        if self.num_queries < 1:
            raise ValueError(f"denoising.num_queries: expected at least 1, got {self.num_queries}")
        if not 0 <= self.label_noise <= 2:
            raise ValueError(f"denoising.label_noise: expected a number from 0 to 2, got {self.label_noise}")
        if self.box_noise < 0:
            raise ValueError(f"denoising.box_noise: expected 0 or more, got {self.box_noise}")


@dataclass(frozen=True, kw_only=True)
class TermWeights:
    """What the terms count by which queries are compared with objects.

    Attributes:
        label: of the focal loss of the classes.
        distance: of the L1 distance of centre and size, in units of the image.
        overlap: of what the generalised IoU lacks of 1.
    """

    label: float
    distance: float = 5.0
    overlap: float = 2.0

    def __post_init__(self) -> None:
        """Refuse weights that reward mistakes."""
        check_fields(self, "weights.")
        for name in ("label", "distance", "overlap"):
            if getattr(self, name) < 0:
                raise ValueError(f"weights.{name}: expected 0 or more, got {getattr(self, name)}")
