"""DINO (arXiv 2203.03605) on a backbone that gives a feature pyramid."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchvision.ops import box_convert, clip_boxes_to_image

from piip.batches import ImageBatch, check_batch
from piip.tasks.detection.boxes import numbers, resize_factors
from piip.tasks.detection.detector import Detector, DetectorConfig
from piip.tasks.detection.dino.config import DenoisingConfig, TermWeights, TransformerConfig
from piip.tasks.detection.dino.decoder import Decoder
from piip.tasks.detection.dino.denoising import DenoisingGenerator, blocked_pairs
from piip.tasks.detection.dino.encoder import Encoder, QuerySelection
from piip.tasks.detection.dino.geometry import Geometry, locate
from piip.tasks.detection.dino.heads import Predictions, stack_layers
from piip.tasks.detection.dino.losses import denoising_losses, matching_losses
from piip.tasks.detection.dino.matching import match
from piip.tasks.detection.dino.neck import ChannelMapper
from piip.tasks.detection.dino.objects import Objects, gather_objects
from piip.tasks.detection.structures import Detections, Target, check_targets


@dataclass(frozen=True, kw_only=True)
class DINOConfig(DetectorConfig):
    """A DINO; see `DetectorConfig` for what all detectors have.

    Attributes:
        num_queries: objects of an image that can be found, at most.
        transformer: of cells and queries.
        denoising: what else queries learn from.
        costs: by what queries are matched to objects.
        losses: what they learn from that.
        max_detections: of an image; a query may count with several classes.
    """

    num_queries: int = 900
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    denoising: DenoisingConfig = field(default_factory=DenoisingConfig)
    costs: TermWeights = field(default_factory=lambda: TermWeights(label=2.0))
    losses: TermWeights = field(default_factory=lambda: TermWeights(label=1.0))
    max_detections: int = 300

    def __post_init__(self) -> None:
        """Refuse a detector that finds nothing."""
        super().__post_init__()
        for name in ("num_queries", "max_detections"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")

    def build(self) -> "DINO":
        """The model, with freshly initialised weights."""
        return DINO(self)


class DINO(Detector):
    """Finds objects: their boxes and classes."""

    config_class = DINOConfig
    learns_masks = False
    class_layers = ("selection.classifier.", "decoder.classifiers.", "denoising.label_embed.")
    config: DINOConfig

    def __init__(self, config: DINOConfig) -> None:
        super().__init__(config)
        transformer, classes = config.transformer, config.num_classes
        width = transformer.embed_dim
        # Before the large part: it may refuse the configuration.
        self.neck = ChannelMapper(config.backbone.channels, width, transformer.num_levels)
        self.encoder = Encoder(transformer)
        self.selection = QuerySelection(width, classes)
        self.decoder = Decoder(transformer, config.num_queries, classes)
        self.denoising = DenoisingGenerator(config.denoising, classes, width)
        self.backbone = config.backbone.build()

    def forward(
        self, images: ImageBatch, targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """Find the objects of images, or compute the losses where targets are given.

        An image may have no objects at all, or more than there are queries.

        Args:
            images: a batch.
            targets: the objects of each image; masks are not looked at.

        Returns:
            The detections of each image, in coordinates of the original image; with targets the losses instead, to be
            added up: `loss_cls`, `loss_bbox` and `loss_iou` of the last layer of the decoder, the same of layer 0 and
            so on as `d0.loss_cls`, of the encoder as `interm_loss_cls`, and of the denoising queries as `dn_loss_cls`,
            `d0.dn_loss_cls`.

        Raises:
            ValueError: for what is no batch of images, and targets that do not fit them.
        """
        check_batch(images)
        if targets is not None:
            check_targets(images, targets)
        image_sizes = numbers([side for size in images.sizes for side in reversed(size)], images.pixels.device)
        image_sizes = image_sizes.view(-1, 2)
        memory, geometry = self.encode(images.pixels, image_sizes)
        selected = self.selection(memory, geometry, self.config.num_queries)
        if targets is not None:
            return self._losses(memory, geometry, selected, gather_objects(targets, image_sizes))
        hidden, starts = self.decoder(self._content(selected), selected.boxes, memory, geometry)
        return self.detect(self.decoder.predict(len(hidden) - 1, hidden[-1], starts[-1]), images)

    def encode(self, pixels: Tensor, image_sizes: Tensor) -> tuple[Tensor, Geometry]:
        """Compute the cells of all maps, (B, cells, embed_dim), and where they are.

        Args:
            pixels: (B, 3, H, W).
            image_sizes: (B, 2), widths and heights without padding.
        """
        maps = self.neck(self.backbone(pixels))
        shapes = [(one.shape[2], one.shape[3]) for one in maps]
        geometry = locate(shapes, image_sizes, (pixels.shape[2], pixels.shape[3]))
        return self.encoder(maps, geometry), geometry

    def detect(self, predictions: Predictions, images: ImageBatch) -> list[Detections]:
        """Choose the detections of each image among what its queries say, (B, queries, ...)."""
        num_classes = self.config.num_classes
        scores = predictions.logits.sigmoid().flatten(1)
        scores, best = scores.topk(min(self.config.max_detections, scores.shape[1]), dim=1)
        queries = best.div(num_classes, rounding_mode="floor")[..., None].expand(-1, -1, 4)
        boxes = box_convert(predictions.boxes, "cxcywh", "xyxy").gather(1, queries)
        found = []
        for image, (size, original) in enumerate(zip(images.sizes, images.original_sizes, strict=True)):
            own = boxes[image] * numbers((size[1], size[0], size[1], size[0]), boxes.device)
            own = clip_boxes_to_image(own, size) / resize_factors(original, size, boxes.device)
            labels = best[image] % num_classes
            found.append(
                Detections(boxes=own, scores=scores[image], labels=labels, mask_probs=None, image_size=original)
            )
        return found

    def _content(self, selected: Predictions) -> Tensor:
        """What the queries look for in each image, (B, queries, embed_dim): learned, and not taken from the cells."""
        batch, count, _ = selected.boxes.shape
        return self.decoder.queries.weight[:count].expand(batch, -1, -1)

    def _losses(self, memory: Tensor, geometry: Geometry, selected: Predictions, objects: Objects) -> dict[str, Tensor]:
        denoising = self.denoising(objects)
        count = denoising.boxes.shape[1]
        content = torch.cat((denoising.content, self._content(selected)), dim=1)
        starts = torch.cat((denoising.boxes.sigmoid(), selected.boxes.detach()), dim=1)
        blocked = blocked_pairs(denoising, selected.boxes.shape[1])
        outputs = self.decoder.predict_all(*self.decoder(content, starts, memory, geometry, blocked))
        matched = stack_layers([selected, *(layer.queries(slice(count, None)) for layer in outputs)])
        denoised = stack_layers([layer.queries(slice(count)) for layer in outputs])
        matches = match(matched, objects, self.config.costs)
        of_matches = matching_losses(matched, objects, matches, self.config.losses)
        of_denoising = denoising_losses(denoised, objects, denoising.groups, self.config.losses)
        prefixes = [*(f"d{layer}." for layer in range(len(outputs) - 1)), ""]
        return of_matches.named(["interm_", *prefixes]) | of_denoising.named([f"{prefix}dn_" for prefix in prefixes])
