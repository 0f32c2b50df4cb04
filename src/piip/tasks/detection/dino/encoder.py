"""The deformable encoder, and the choice of the cells that objects are looked for from."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from piip.tasks.detection.dino.config import TransformerConfig
from piip.tasks.detection.dino.geometry import Geometry
from piip.tasks.detection.dino.heads import Predictions, make_classifier, make_regressor
from piip.tasks.detection.dino.layers import EncoderLayer
from piip.tasks.detection.dino.positions import cell_embedding

_CELL_BOX = 0.05  # side of the box that a cell of the finest map starts from, in units of the image
_BORDER = 0.01


class Encoder(nn.Module):
    """Cells of all maps look at each other (Deformable DETR, arXiv 2010.04159, section 4.1)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.empty(config.num_levels, config.embed_dim))
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        nn.init.normal_(self.level_embed)

    def forward(self, maps: Sequence[Tensor], geometry: Geometry) -> Tensor:
        """Turn maps (B, embed_dim, H, W) into cells (B, cells, embed_dim)."""
        positions = torch.cat(
            [
                cell_embedding(geometry.extents[:, level], *shape, embed.shape[0]).flatten(1, 2).to(embed) + embed
                for level, (shape, embed) in enumerate(zip(geometry.shapes, self.level_embed, strict=True))
            ],
            dim=1,
        )
        x = torch.cat([one.flatten(2).transpose(1, 2) for one in maps], dim=1)
        reference_points = geometry.reference_points
        for layer in self.layers:
            x = layer(x, positions, reference_points, geometry)
        return x


class QuerySelection(nn.Module):
    """Finds the cells that look most like an object, whose boxes are where queries start (DINO, section 3.4)."""

    def __init__(self, embed_dim: int, num_classes: int) -> None:
        super().__init__()
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.norm = nn.LayerNorm(embed_dim)
        self.classifier = make_classifier(embed_dim, num_classes)
        self.regressor = make_regressor(embed_dim)
        nn.init.xavier_uniform_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, memory: Tensor, geometry: Geometry, count: int) -> Predictions:
        """Choose the best cells of each image.

        Args:
            memory: (B, cells, embed_dim), of the encoder.
            geometry: of the cells.
            count: how many; where the maps have fewer cells, all of them.

        Returns:
            What the chosen cells say, best first: (B, count, ...).
        """
        starts = start_boxes(geometry)
        features = self.embed(memory, starts)
        logits = self.classifier(features)
        best = logits.amax(-1).topk(min(count, logits.shape[1]), dim=1).indices.unsqueeze(-1)
        chosen, start = (tensor.gather(1, best.expand(-1, -1, tensor.shape[-1])) for tensor in (features, starts))
        logits = logits.gather(1, best.expand(-1, -1, logits.shape[-1]))
        return Predictions(logits.float(), (start + self.regressor(chosen).float()).sigmoid())

    def embed(self, memory: Tensor, starts: Tensor) -> Tensor:
        """The features that cells are chosen by: (B, cells, embed_dim)."""
        is_out = starts[..., :1].isinf()
        return self.norm(self.proj(memory.masked_fill(is_out, 0)))


def start_boxes(geometry: Geometry) -> Tensor:
    """The logits of the box around each cell, twice as large from map to map: (B, cells, 4).

    Infinite for padding, and where the centre is at the border of the image or the box nearly as large as that.
    """
    sides = [
        geometry.centres.new_full((height * width, 2), _CELL_BOX * 2**level)
        for level, (height, width) in enumerate(geometry.shapes)
    ]
    boxes = torch.cat((geometry.centres, torch.cat(sides).expand_as(geometry.centres)), dim=-1)
    is_in = ((boxes > _BORDER) & (boxes < 1 - _BORDER)).all(-1) & ~geometry.padding_mask
    return torch.log(boxes / (1 - boxes)).masked_fill(~is_in[..., None], torch.inf)
