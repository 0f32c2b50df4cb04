"""The decoder: queries that move their boxes towards objects, layer by layer."""

from torch import Tensor, nn

from piip.tasks.detection.dino.config import TransformerConfig
from piip.tasks.detection.dino.geometry import Geometry
from piip.tasks.detection.dino.heads import Predictions, make_classifier, make_regressor, refine
from piip.tasks.detection.dino.layers import DecoderLayer
from piip.tasks.detection.dino.positions import box_embedding


class Decoder(nn.Module):
    """Refines boxes in each layer, and tells the class and the box after each.

    The gradient of a box goes back through two layers: its own, and the one before that gave it to it ("look forward
    twice", DINO, arXiv 2203.03605, section 3.5).

    Args:
        config: of the transformer.
        num_queries: that have learned what to look for.
        num_classes: that there are.
    """

    def __init__(self, config: TransformerConfig, num_queries: int, num_classes: int) -> None:
        super().__init__()
        self.queries = nn.Embedding(num_queries, config.embed_dim)
        self.position_mlp = nn.Sequential(
            nn.Linear(2 * config.embed_dim, config.embed_dim),
            nn.ReLU(),
            nn.Linear(config.embed_dim, config.embed_dim),
        )
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.embed_dim)
        self.classifiers = nn.ModuleList(make_classifier(config.embed_dim, num_classes) for _ in self.layers)
        self.regressors = nn.ModuleList(make_regressor(config.embed_dim) for _ in self.layers)

    def forward(
        self, content: Tensor, boxes: Tensor, memory: Tensor, geometry: Geometry, blocked: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Let queries look for objects.

        Args:
            content: what they look for, (B, queries, embed_dim).
            boxes: where, (B, queries, 4), as centre x, centre y, width, height in units of the image.
            memory: (B, cells, embed_dim), of the encoder.
            geometry: of the cells.
            blocked: (queries, queries), which query must not look at which.

        Returns:
            For each layer the features of the queries after it, normed, and the boxes before it.
        """
        ratios = geometry.valid_ratios.repeat(1, 1, 2)[:, None]  # (B, 1, levels, 4)
        x, hidden, starts = content, [], []
        for number, layer in enumerate(self.layers):
            if number:
                boxes = refine(boxes.detach(), self.regressors[number - 1](x))
            in_maps = boxes.detach()[:, :, None] * ratios
            positions = self.position_mlp(box_embedding(in_maps[:, :, 0], x.shape[-1] // 2).to(x.dtype))
            x = layer(x, positions, in_maps, memory, geometry, blocked)
            hidden.append(self.norm(x))
            starts.append(boxes)
        return hidden, starts

    def predict(self, layer: int, hidden: Tensor, start: Tensor) -> Predictions:
        """What the queries say after a layer.

        Args:
            layer: its number.
            hidden: features after it, (B, queries, embed_dim).
            start: boxes before it, (B, queries, 4).
        """
        return Predictions(self.classifiers[layer](hidden).float(), refine(start, self.regressors[layer](hidden)))

    def predict_all(self, hidden: list[Tensor], starts: list[Tensor]) -> list[Predictions]:
        """What the queries say after each layer."""
        return [self.predict(layer, *pair) for layer, pair in enumerate(zip(hidden, starts, strict=True))]
