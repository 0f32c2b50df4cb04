"""Evaluating a segmentor on images and masks."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import nn

from piip.distributed import world_size
from piip.held_out import held_out_batches
from piip.hub import evaluating
from piip.tasks.segmentation.data import EvaluationSet, collate_evaluation
from piip.tasks.segmentation.metric import SegmentationMetric, SegmentationScores


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    dataset: EvaluationSet,
    *,
    num_workers: int = 0,
    autocast: torch.dtype | None = None,
    skip_unreadable: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> SegmentationScores:
    """Score a segmentor on every image of a dataset, each counted once, at its original size.

    Images go through it one by one: they differ in size, and `SlidingInference` fills batches with their windows.
    Where `torch.distributed` is set up, the images are shared out over its processes, and all get the scores of all.

    Args:
        model: takes an `ImageBatch` and gives a label map for each image; on the device to compute on. Its training
            mode is restored.
        dataset: with the model's own preprocessing and classes.
        num_workers: processes that read images; 0 reads them in this one.
        autocast: the type to compute in where that is safe, or None for float32.
        skip_unreadable: leave out images that cannot be read, or whose mask cannot be; see `held_out_batches`.
        progress: called with the number of images that were done since the last call, on this process.

    Raises:
        ImageError: for an image or mask that cannot be read, naming it; with `skip_unreadable`, when none can be.
        MaskError: for a mask that holds an undeclared value, naming both.
        ValueError: for a negative number of workers.
    """
    device = next(model.parameters()).device
    batches = held_out_batches(
        dataset, collate_evaluation, num_workers=num_workers, skip_unreadable=skip_unreadable, progress=progress
    )
    metric = SegmentationMetric(len(dataset.files.masks.class_names), device)
    with evaluating(model):
        for _, (images, labels) in batches:
            with torch.autocast(device.type, autocast, enabled=autocast is not None):
                found = model(images._replace(pixels=images.pixels.to(device)))
            for own, expected in zip(found, labels, strict=True):
                metric.update(own, expected.to(device))
    state = metric.state()
    if world_size() > 1:
        dist.all_reduce(state)
    return metric.compute(state)
