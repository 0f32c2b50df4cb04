"""Scores of image classification, counted on the device and summed over processes."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ClassificationScores:
    """What an evaluation found.

    Attributes:
        top1: Percentage (0 to 100) of images whose label has the highest logit.
        top5: Percentage of images whose label is among the five highest logits. With fewer classes than five it is
            among all of them, so that this is always 100.
        loss: Mean cross entropy, in nats.
        num_images: Images counted.
        per_class: For each class, the top-1 percentage among the images of this class; None for a class without images.
    """

    top1: float
    top5: float
    loss: float
    num_images: int
    per_class: tuple[float | None, ...]


class ClassificationMetric:
    """Counts top-1 and top-5 hits and adds up the loss, without waiting for the device.

    The whole state is one flat tensor of sums, so that processes merge theirs by adding:

        state = metric.state()
        torch.distributed.all_reduce(state)
        scores = metric.compute(state)

    Args:
        num_classes: Number of classes K.
        device: Where logits and labels will be.
    """

    def __init__(self, num_classes: int, device: torch.device | str = "cpu") -> None:
        self.num_classes = num_classes
        # [loss sum, top-5 hits, K top-1 hits by class, K images by class]; float64 counts exactly up to 2**53.
        self._state = torch.zeros(2 + 2 * num_classes, dtype=torch.float64, device=device)

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Counts a batch.

        Args:
            logits: `(B, K)`, of any floating type.
            labels: `(B,)`, int64 class indices.

        Raises:
            ValueError: If the shapes do not fit.
        """
        if logits.ndim != 2 or logits.shape[1] != self.num_classes or labels.shape != logits.shape[:1]:
            raise ValueError(
                f"logits must be (B, {self.num_classes}) and labels (B,), "
                f"got {tuple(logits.shape)} and {tuple(labels.shape)}"
            )
        logits = logits.double()
        best = logits.topk(min(5, self.num_classes), dim=1).indices  # (B, 5)
        hits = (best == labels[:, None]).to(logits.dtype)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        by_class = torch.zeros(2, self.num_classes, dtype=logits.dtype, device=logits.device)
        by_class.index_add_(1, labels, torch.stack([hits[:, 0], torch.ones_like(hits[:, 0])]))
        self._state += torch.cat([torch.stack([loss, hits.sum()]), by_class.flatten()])

    def state(self) -> Tensor:
        """Returns a copy of the sums, float64 `(2 + 2 K,)`; the sum of two states is the state of all their images."""
        return self._state.clone()

    def compute(self, state: Tensor | None = None) -> ClassificationScores:
        """Returns the scores.

        Args:
            state: A sum of states, for example over processes; by default that of this object.

        Raises:
            ValueError: If no image was counted, or `state` is that of another number of classes.
        """
        state = self._state if state is None else state
        if state.shape != self._state.shape:
            raise ValueError(
                f"state must be {tuple(self._state.shape)} for {self.num_classes} classes, got {tuple(state.shape)}"
            )
        loss, top5_hits, *by_class = state.tolist()
        hits, images = by_class[: self.num_classes], by_class[self.num_classes :]
        num_images = sum(images)
        if not num_images:
            raise ValueError("no image was counted, so there are no scores")
        return ClassificationScores(
            top1=100 * sum(hits) / num_images,
            top5=100 * top5_hits / num_images,
            loss=loss / num_images,
            num_images=int(num_images),
            per_class=tuple(100 * hit / n if n else None for hit, n in zip(hits, images, strict=True)),
        )
