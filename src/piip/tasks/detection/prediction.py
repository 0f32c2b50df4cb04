"""Finding objects in images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from PIL import Image
from torch import nn

from piip.batches import collate_images
from piip.checks import check_count, check_probability
from piip.devices import require_weights
from piip.images import ImageError, SourceT, read_batches
from piip.tasks.detection.augmentation import DetectionPreprocessConfig
from piip.tasks.detection.data import prepare
from piip.tasks.detection.structures import Detections


def predict(
    model: nn.Module,
    preprocess: DetectionPreprocessConfig,
    images: Sequence[SourceT],
    *,
    threshold: float = 0.5,
    labels: Sequence[int] | None = None,
    batch_size: int = 1,
    skip: Callable[[SourceT, ImageError], None] | None = None,
) -> Iterator[tuple[SourceT, Detections]]:
    """Find objects in images, yielding each as soon as its batch is done.

    Args:
        model: takes an `ImageBatch` and gives a list of `Detections`; in evaluation mode, on the device to compute on.
        preprocess: the model's.
        images: files, pictures, arrays or tensors; the boxes refer to them upright, as people see them.
        threshold: what is less certain is left out.
        labels: the classes to look for; all by default.
        batch_size: images in a batch. With 1 no image is padded to the size of another one.
        skip: is told what cannot be read, and why; that is left out then. By default the error is raised.

    Raises:
        ImageError: for what is no image, or cannot be read, naming the file, where `skip` is not given.
        ValueError: for a model without weights, a threshold that is no probability, no class to look for, or batches of
            nothing.
    """
    check_probability("threshold", threshold)
    if labels is not None and not labels:
        raise ValueError("labels: there is none, so there is nothing to look for")
    batch_size = check_count("batch_size", batch_size)
    require_weights(model, "predict")
    return _predict(model, preprocess, read_batches(images, batch_size, skip), threshold, labels)


@torch.inference_mode()
def _predict(
    model: nn.Module,
    preprocess: DetectionPreprocessConfig,
    batches: Iterator[list[tuple[SourceT, Image.Image]]],
    threshold: float,
    labels: Sequence[int] | None,
) -> Iterator[tuple[SourceT, Detections]]:
    weight = next(model.parameters())
    transform = preprocess.build()
    for part in batches:
        batch = collate_images([prepare(image, transform) for _, image in part], preprocess.size_divisor)
        found: list[Detections] = model(batch._replace(pixels=batch.pixels.to(weight)))
        for (source, _), detections in zip(part, found, strict=True):
            yield source, select(detections, threshold, labels)


def select(detections: Detections, threshold: float, labels: Sequence[int] | None = None) -> Detections:
    """Keep the detections of at least this score, and of these classes (by default all)."""
    keep = detections.scores >= threshold
    if labels is not None:
        keep &= torch.isin(detections.labels, detections.labels.new_tensor(labels))
    return replace(
        detections,
        boxes=detections.boxes[keep],
        scores=detections.scores[keep],
        labels=detections.labels[keep],
        mask_probs=None if detections.mask_probs is None else detections.mask_probs[keep],
    )
