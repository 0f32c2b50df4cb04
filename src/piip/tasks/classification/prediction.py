"""Classifying images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image

from piip.checks import check_count
from piip.devices import require_weights
from piip.images import ImageError, SourceT, read_batches
from piip.tasks.classification.names import readable_name

if TYPE_CHECKING:
    from piip.tasks.classification.model import ClassificationModel


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class of a prediction.

    Attributes:
        label: number of the class.
        name: what it is called; `class 7` where the model has no names.
        score: its probability.
    """

    label: int
    name: str
    score: float


def predict(
    model: "ClassificationModel",
    images: Sequence[SourceT],
    *,
    top: int = 5,
    labels: Sequence[int] | None = None,
    batch_size: int = 16,
    skip: Callable[[SourceT, ImageError], None] | None = None,
) -> Iterator[tuple[SourceT, list[ClassScore]]]:
    """Classify images, yielding each as soon as its batch is done.

    Args:
        model: in evaluation mode, on the device to compute on.
        images: files, pictures, arrays or tensors.
        top: how many classes to give, best first.
        labels: the classes to choose from, all by default; their probabilities stay those among all classes.
        batch_size: images in a batch.
        skip: is told what cannot be read, and why; that is left out then. By default the error is raised.

    Raises:
        ImageError: for what is no image, or cannot be read, naming the file, where `skip` is not given.
        ValueError: for a model without classes or weights, no class to give or to choose from, or batches of nothing.
    """
    top, batch_size = check_count("top", top), check_count("batch_size", batch_size)
    model.require_classes()
    require_weights(model, "predict")
    if labels is not None and not labels:
        raise ValueError("labels: there is none, so there is nothing to choose from")
    batches = read_batches(images, batch_size, skip)
    return _predict(model, batches, top, range(model.config.head.num_classes) if labels is None else labels)


@torch.inference_mode()
def _predict(
    model: "ClassificationModel", batches: Iterator[list[tuple[SourceT, Image.Image]]], top: int, labels: Sequence[int]
) -> Iterator[tuple[SourceT, list[ClassScore]]]:
    weight = next(model.parameters())
    transform = model.config.preprocess.build()
    chosen = torch.tensor(labels, device=weight.device)
    top = min(top, len(labels))
    for batch in batches:
        pixels = torch.stack([transform(image) for _, image in batch])
        scores, places = model(pixels.to(weight))["logits"].float().softmax(-1)[:, chosen].topk(top)
        for (source, _), best, numbers in zip(batch, scores.tolist(), chosen[places].tolist(), strict=True):
            yield source, [_class_score(model, label, score) for label, score in zip(numbers, best, strict=True)]


def _class_score(model: "ClassificationModel", label: int, score: float) -> ClassScore:
    names = model.config.class_names
    return ClassScore(label=label, name=readable_name(names[label]) if names else f"class {label}", score=score)
