"""Scores of semantic segmentation, from counted pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from piip.tasks.segmentation.structures import IGNORED


@dataclass(frozen=True, kw_only=True)
class SegmentationScores:
    """What an evaluation found, in per cent (0 to 100).

    A class without labelled pixels has no accuracy; one that is not predicted either has no IoU. None stands in their
    place, and the means leave them out.

    Attributes:
        miou: Mean IoU (intersection over union) of the classes.
        mean_accuracy: Mean accuracy of the classes.
        accuracy: Labelled pixels that are predicted rightly, of all classes together.
        per_class_iou: IoU of each class.
        per_class_accuracy: Pixels of each class that are predicted rightly.
        num_images: Images counted.
    """

    miou: float
    mean_accuracy: float
    accuracy: float
    per_class_iou: tuple[float | None, ...]
    per_class_accuracy: tuple[float | None, ...]
    num_images: int


class SegmentationMetric:
    """Counts pixels by their label and by what is predicted, which is exact.

    The whole state is one tensor of counts, so that processes merge theirs by adding:

        state = metric.state()
        torch.distributed.all_reduce(state)
        scores = metric.compute(state)

    Args:
        num_classes: Number of classes K.
        device: Where predictions and labels will be.
    """

    def __init__(self, num_classes: int, device: torch.device | str = "cpu") -> None:
        self.num_classes = num_classes
        # [K x K pixels by label and prediction, images]
        self._state = torch.zeros(num_classes**2 + 1, dtype=torch.int64, device=device)

    @torch.no_grad()
    def update(self, prediction: Tensor, labels: Tensor) -> None:
        """Counts an image.

        Args:
            prediction: `(H, W)`, integer classes.
            labels: `(H, W)`, integer classes, or 255 where a pixel does not count.

        Raises:
            ValueError: If the shapes differ, or there is a class that is none of the K.
        """
        if prediction.shape != labels.shape:
            raise ValueError(
                f"prediction and labels must be of one size, got {tuple(prediction.shape)} and {tuple(labels.shape)}"
            )
        counts = labels != IGNORED
        expected, found = labels[counts].long(), prediction[counts].long()
        for name, classes in (("prediction", found), ("labels", expected)):
            if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < self.num_classes:
                raise ValueError(
                    f"{name}: classes must be within 0...{self.num_classes - 1}, got {int(classes.min())} to "
                    f"{int(classes.max())}"
                )
        self._state[:-1] += torch.bincount(expected * self.num_classes + found, minlength=self.num_classes**2)
        self._state[-1] += 1

    def state(self) -> Tensor:
        """Returns a copy of the counts, int64 `(K * K + 1,)`; the sum of two states is that of all their images."""
        return self._state.clone()

    def compute(self, state: Tensor | None = None) -> SegmentationScores:
        """Returns the scores.

        Args:
            state: A sum of states, for example over processes; by default that of this object.

        Raises:
            ValueError: If no labelled pixel was counted, or `state` is that of another number of classes.
        """
        state = self._state if state is None else state
        if state.shape != self._state.shape:
            raise ValueError(
                f"state must be {tuple(self._state.shape)} for {self.num_classes} classes, got {tuple(state.shape)}"
            )
        counts = state[:-1].view(self.num_classes, self.num_classes)
        hits, labelled, predicted = (values.tolist() for values in (counts.diag(), counts.sum(1), counts.sum(0)))
        if not any(labelled):
            raise ValueError("no labelled pixel was counted, so there are no scores")
        unions = [own + found - both for own, found, both in zip(labelled, predicted, hits, strict=True)]
        ious, accuracies = _percentages(hits, unions), _percentages(hits, labelled)
        return SegmentationScores(
            miou=_mean(ious),
            mean_accuracy=_mean(accuracies),
            accuracy=100 * sum(hits) / sum(labelled),
            per_class_iou=ious,
            per_class_accuracy=accuracies,
            num_images=int(state[-1]),
        )


def _percentages(parts: Sequence[int], wholes: Sequence[int]) -> tuple[float | None, ...]:
    return tuple(100 * part / whole if whole else None for part, whole in zip(parts, wholes, strict=True))


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)
