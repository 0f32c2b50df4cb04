"""The mask head of Mask R-CNN (arXiv 1703.06870, section 3): which part of a box is the object."""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image, roi_align

from piip.config import check_fields
from piip.tasks.detection.counts import average_count

_CHUNK_PIXELS = 2**25  # of the masks that are float32 at once: 128 MiB


@dataclass(frozen=True, kw_only=True)
class MaskHeadConfig:
    """A few convolutions on the features of each box, and a mask for each class, twice as fine.

    Attributes:
        channels: of the convolutions.
        num_convs: how many there are.
        pool_size: cells along the sides of a box's features.
    """

    channels: int = 256
    num_convs: int = 4
    pool_size: int = 14

    def __post_init__(self) -> None:
        """Refuse a head without extent."""
        check_fields(self, "mask_head.")
        for name in ("channels", "pool_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"mask_head.{name}: expected at least 1, got {getattr(self, name)}")
        if self.num_convs < 0:
            raise ValueError(f"mask_head.num_convs: expected 0 or more, got {self.num_convs}")

    @property
    def mask_size(self) -> int:
        """Cells along the sides of a mask."""
        return 2 * self.pool_size

    def build(self, channels: int, num_classes: int) -> "MaskHead":
        """The head on features of this width."""
        return MaskHead(self, channels, num_classes)


class MaskHead(nn.Module):
    """Draws the mask that an object of each class would have."""

    def __init__(self, config: MaskHeadConfig, channels: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        widths = [channels, *[config.channels] * config.num_convs]
        self.convs = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths))
        self.upsample = nn.ConvTranspose2d(widths[-1], config.channels, 2, stride=2)
        self.logits = nn.Conv2d(config.channels, num_classes, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, regions: Tensor) -> Tensor:
        """Look at the features of boxes, (N, channels, pool_size, pool_size).

        Returns:
            Logits (N, num_classes, mask_size, mask_size).
        """
        for conv in self.convs:
            regions = F.relu(conv(regions))
        return self.logits(F.relu(self.upsample(regions)))

    def loss(self, logits: Tensor, labels: Tensor, goals: Tensor) -> dict[str, Tensor]:
        """Compare the masks of the objects' own classes with the objects.

        Args:
            logits: of `forward`.
            labels: (N,).
            goals: (N, mask_size, mask_size), of `mask_targets`.

        Returns:
            `loss_mask`, the mean over all cells (see `average_count`); 0 where there is no object.
        """
        own = of_class(logits.float(), labels)
        loss = F.binary_cross_entropy_with_logits(own, goals, reduction="sum")
        return {"loss_mask": loss / average_count(own.numel(), own.device)}

    def probabilities(self, logits: Tensor, labels: Tensor) -> Tensor:
        """How likely each cell is the object of this class: (N, mask_size, mask_size), float32."""
        return of_class(logits.float(), labels).sigmoid()


def of_class(masks: Tensor, labels: Tensor) -> Tensor:
    """From masks (N, num_classes, H, W) those of the labels (N,): (N, H, W)."""
    return masks[torch.arange(len(labels), device=labels.device), labels]


def mask_targets(masks: Tensor, objects: Tensor, boxes: Tensor, size: int) -> Tensor:
    """What the masks of objects look like through boxes on them.

    Three hundred masks of a 4000 x 3000 photo take 14 GB as float32, so a few at a time are made that. Waits for the
    device once each time, unless all of them are few.

    Args:
        masks: (M, H, W), bool; of all objects of an image.
        objects: (N,), whose mask to look at.
        boxes: (N, 4), where to look.
        size: cells along the sides of the result.

    Returns:
        (N, size, size), float32; 1 where at least half of a cell is the object.
    """
    height, width = masks.shape[-2:]
    boxes = clip_boxes_to_image(boxes.float(), (height, width))
    coverage = boxes.new_zeros((len(boxes), size, size))
    step = max(1, _CHUNK_PIXELS // (height * width))
    for start in range(0, len(masks), step):
        chosen: slice | Tensor = slice(None)
        if len(masks) > step:
            chosen = ((start <= objects) & (objects < start + step)).nonzero().squeeze(1)
        regions = torch.cat(((objects[chosen, None] - start).float(), boxes[chosen]), dim=1)
        chunk = slice(start, start + step)
        coverage[chosen] = roi_align(masks[chunk, None].float(), regions, size, sampling_ratio=0, aligned=True)[:, 0]
    return (coverage >= 0.5).float()
