"""Labelling the pixels of images."""

import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from piip.batches import collate_images
from piip.devices import require_weights
from piip.images import ImageError, SourceT, as_image
from piip.tasks.segmentation.augmentation import SegmentationPreprocessConfig
from piip.tasks.segmentation.data import prepare
from piip.tasks.segmentation.structures import IGNORED

LabelMap = NDArray[np.uint8]
"""The class of each pixel `(H, W)` of an image; 255 where it is none that was asked for."""


def predict(
    model: nn.Module,
    preprocess: SegmentationPreprocessConfig,
    images: Sequence[SourceT],
    *,
    labels: Sequence[int] | None = None,
    skip: Callable[[SourceT, ImageError], None] | None = None,
) -> Iterator[tuple[SourceT, LabelMap]]:
    """Label the pixels of images, yielding each as soon as it is done.

    Args:
        model: takes an `ImageBatch` and gives a label map for each image; in evaluation mode, on the device to compute
            on.
        preprocess: the model's.
        images: files, pictures, arrays or tensors; the label maps are those of the images upright, as people see them.
        labels: the classes to look for; all by default. Pixels of others get the label 255.
        skip: is told what cannot be read or is too long, and why; that is left out. By default the error is raised.

    Raises:
        ImageError: for what is no image, cannot be read or is too long, naming the file, where `skip` is not given.
        ValueError: for a model without weights, or no class to look for.
    """
    if labels is not None and not labels:
        raise ValueError("labels: there is none, so there is nothing to look for")
    require_weights(model, "predict")
    return _predict(model, preprocess, images, labels, skip)


@torch.inference_mode()
def _predict(
    model: nn.Module,
    preprocess: SegmentationPreprocessConfig,
    images: Sequence[SourceT],
    labels: Sequence[int] | None,
    skip: Callable[[SourceT, ImageError], None] | None,
) -> Iterator[tuple[SourceT, LabelMap]]:
    weight = next(model.parameters())
    transform = preprocess.build()
    for source in images:
        try:
            name = f"image '{source}'" if isinstance(source, str | os.PathLike) else "an image"
            batch = collate_images([prepare(as_image(source), transform, name)])
        except ImageError as error:
            if skip is None:
                raise
            skip(source, error)
            continue
        (found,) = model(batch._replace(pixels=batch.pixels.to(weight)))
        yield source, select(found.to(torch.uint8).cpu().numpy(), labels)


def select(label_map: LabelMap, labels: Sequence[int] | None = None) -> LabelMap:
    """The same with 255 in place of all but these labels (by default all)."""
    return label_map if labels is None else np.where(np.isin(label_map, labels), label_map, IGNORED).astype(np.uint8)


def count_pixels(label_map: LabelMap) -> dict[int, int]:
    """How many pixels each class has that is there, most first."""
    counts = np.bincount(label_map.ravel(), minlength=IGNORED)[:IGNORED]
    return {int(label): int(counts[label]) for label in np.argsort(-counts, kind="stable") if counts[label]}
