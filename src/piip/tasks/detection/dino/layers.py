"""The layers of the transformer (Deformable DETR, arXiv 2010.04159, section 4)."""

from timm.layers import Mlp
from torch import Tensor, nn

from piip.ops import DeformableAttention
from piip.tasks.detection.dino.config import TransformerConfig
from piip.tasks.detection.dino.geometry import Geometry


class EncoderLayer(nn.Module):
    """Each cell looks at a few points of all maps."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attn = _deformable_attention(config)
        self.norm1 = nn.LayerNorm(config.embed_dim)
        self.mlp = _mlp(config)
        self.norm2 = nn.LayerNorm(config.embed_dim)

    def forward(self, x: Tensor, positions: Tensor, reference_points: Tensor, geometry: Geometry) -> Tensor:
        """Update the cells.

        Args:
            x: (B, cells, embed_dim).
            positions: (B, cells, embed_dim), added to tell where to look, but not to what is seen there.
            reference_points: (B, cells, levels, 2).
            geometry: of the maps.
        """
        seen = self.attn(x + positions, reference_points, x, geometry.shapes, padding_mask=geometry.padding_mask)
        x = self.norm1(x + seen)
        return self.norm2(x + self.mlp(x))


class DecoderLayer(nn.Module):
    """Queries look at each other, and at a few points of all maps around their boxes."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(config.embed_dim, config.num_heads, batch_first=True)
        self.norm1 = nn.LayerNorm(config.embed_dim)
        self.cross_attn = _deformable_attention(config)
        self.norm2 = nn.LayerNorm(config.embed_dim)
        self.mlp = _mlp(config)
        self.norm3 = nn.LayerNorm(config.embed_dim)
        nn.init.xavier_uniform_(self.self_attn.out_proj.weight)

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        boxes: Tensor,
        memory: Tensor,
        geometry: Geometry,
        blocked: Tensor | None,
    ) -> Tensor:
        """Update the queries.

        Args:
            x: (B, queries, embed_dim).
            positions: (B, queries, embed_dim), added to tell where to look.
            boxes: (B, queries, levels, 4), in units of each map.
            memory: the cells, (B, cells, embed_dim).
            geometry: of the maps.
            blocked: (queries, queries), which query must not look at which.
        """
        query = x + positions
        seen, _ = self.self_attn(query, query, x, attn_mask=blocked, need_weights=False)
        x = self.norm1(x + seen)
        seen = self.cross_attn(x + positions, boxes, memory, geometry.shapes, padding_mask=geometry.padding_mask)
        x = self.norm2(x + seen)
        return self.norm3(x + self.mlp(x))


def _deformable_attention(config: TransformerConfig) -> DeformableAttention:
    return DeformableAttention(config.embed_dim, config.num_heads, config.num_points, num_levels=config.num_levels)


def _mlp(config: TransformerConfig) -> Mlp:
    mlp = Mlp(config.embed_dim, config.mlp_dim, act_layer=nn.ReLU)
    for layer in (mlp.fc1, mlp.fc2):
        nn.init.xavier_uniform_(layer.weight)
    return mlp
