"""The auxiliary head (FCN, arXiv 1411.4038): a few convolutions on one map, which help the backbone to learn."""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from piip.config import check_fields
from piip.tasks.segmentation.upernet.layers import conv_block, make_classifier


@dataclass(frozen=True, kw_only=True)
class FCNHeadConfig:
    """An auxiliary head; only training computes it.

    Attributes:
        level: the backbone's map that it is on, counted from 0, finest first.
        channels: of its convolutions.
        num_convs: how many there are.
        dropout: probability of leaving out a channel before the classifier in training.
        loss_weight: what its loss is multiplied by.
    """

    level: int = 2
    channels: int = 256
    num_convs: int = 1
    dropout: float = 0.1
    loss_weight: float = 0.4

    def __post_init__(self) -> None:
        """Refuse a head without extent."""
        check_fields(self, "auxiliary_head.")
        for name, least in (("level", 0), ("channels", 1), ("num_convs", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"auxiliary_head.{name}: expected at least {least}, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"auxiliary_head.dropout: expected from 0 to less than 1, got {self.dropout}")
        if self.loss_weight <= 0:
            raise ValueError(f"auxiliary_head.loss_weight: expected a positive number, got {self.loss_weight}")

    def build(self, in_channels: int, num_classes: int) -> "FCNHead":
        """The head on a map of this width."""
        return FCNHead(self, in_channels, num_classes)


class FCNHead(nn.Module):
    """Classifies the cells of one map of the backbone."""

    def __init__(self, config: FCNHeadConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        widths = [in_channels, *[config.channels] * config.num_convs]
        self.convs = nn.Sequential(*(conv_block(before, after, 3) for before, after in pairwise(widths)))
        self.dropout = nn.Dropout2d(config.dropout)
        self.classifier = make_classifier(config.channels, num_classes)

    def forward(self, feature: Tensor) -> Tensor:
        """Compute logits (B, num_classes, H, W) from the map (B, in_channels, H, W)."""
        return self.classifier(self.dropout(self.convs(feature)))
