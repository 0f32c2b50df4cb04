"""Contrastive denoising (DINO, arXiv 2203.03605, section 3.3): queries that are disturbed objects."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from piip.tasks.detection.dino.config import DenoisingConfig
from piip.tasks.detection.dino.heads import inverse_sigmoid
from piip.tasks.detection.dino.objects import NO_OBJECT, Objects

Shape = tuple[int, int, int, int]
"""Images, groups, 2 (positive and negative queries), objects."""


class Noise(NamedTuple):
    """What disturbs the queries.

    Attributes:
        is_relabelled: (B, groups, 2, N), which queries are told another class.
        labels: (B, groups, 2, N), that class; may be the right one.
        shifts: (B, groups, 2, N, 4), how far the left, upper, right and lower sides move, in halves of the box: by up
            to 1 those of a positive query, by 1 to 2 those of a negative one.
    """

    is_relabelled: Tensor
    labels: Tensor
    shifts: Tensor


class DenoisingQueries(NamedTuple):
    """Queries for a decoder, group by group.

    Attributes:
        content: what they look for, (B, P, embed_dim).
        boxes: logits of where, (B, P, 4).
        groups: how many there are.
    """

    content: Tensor
    boxes: Tensor
    groups: int


def draw_noise(shape: Shape, num_classes: int, config: DenoisingConfig, device: torch.device) -> Noise:
    """Draw the noise of all queries, on their device."""
    signs = torch.randint(0, 2, (*shape, 4), device=device) * 2 - 1
    distances = torch.rand((*shape, 4), device=device)
    distances[:, :, 1] += 1
    return Noise(
        is_relabelled=torch.rand(shape, device=device) < config.label_noise / 2,
        labels=torch.randint(0, num_classes, shape, device=device),
        shifts=distances * signs,
    )


class DenoisingGenerator(nn.Module):
    """Makes the queries from objects, without waiting for the device."""

    def __init__(self, config: DenoisingConfig, num_classes: int, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        self.label_embed = nn.Embedding(num_classes, embed_dim)

    def forward(self, objects: Objects) -> DenoisingQueries:
        """Disturb the objects; queries for padding look for nothing, in the middle of the image."""
        batch, largest = objects.labels.shape
        groups = max(1, self.config.num_queries // max(largest, 1))
        num_classes = self.label_embed.num_embeddings
        noise = draw_noise((batch, groups, 2, largest), num_classes, self.config, objects.labels.device)
        is_padding = (objects.labels == NO_OBJECT)[:, None, None, :, None]
        labels = torch.where(noise.is_relabelled, noise.labels, objects.labels[:, None, None].clamp(min=0))
        corners = box_convert(objects.boxes, "cxcywh", "xyxy")
        reach = objects.boxes[..., 2:].repeat(1, 1, 2) * (self.config.box_noise / 2)
        corners = (corners[:, None, None] + noise.shifts * reach[:, None, None]).clamp(0, 1)
        boxes = inverse_sigmoid(box_convert(corners, "xyxy", "cxcywh"))
        return DenoisingQueries(
            content=self.label_embed(labels).masked_fill(is_padding, 0).flatten(1, 3),
            boxes=boxes.masked_fill(is_padding, 0).flatten(1, 3),
            groups=groups,
        )


def blocked_pairs(denoising: DenoisingQueries, num_others: int) -> Tensor:
    """Which query must not look at which, when others follow the denoising ones: (P + others, P + others), bool.

    Nothing may look at denoising queries of another group, because they tell where the objects are.
    """
    count, device = denoising.boxes.shape[1], denoising.boxes.device
    group = torch.arange(count, device=device) // max(count // denoising.groups, 1)
    group = torch.cat((group, group.new_full((num_others,), -1)))
    return (group[:, None] != group) & (group >= 0)
