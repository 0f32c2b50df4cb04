"""Evaluating a segmentor on images and masks."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader

from piip.distributed import rank, world_size
from piip.hub import evaluating
from piip.sampling import ShardedSampler
from piip.tasks.segmentation.data import EvaluationSet, collate_evaluation
from piip.tasks.segmentation.metric import SegmentationMetric, SegmentationScores
from piip.workers import init_worker


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    dataset: EvaluationSet,
    *,
    num_workers: int = 0,
    autocast: torch.dtype | None = None,
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
        progress: called with the number of images that were done since the last call, on this process.

    Raises:
        ImageError: for an image or mask that cannot be read, naming it.
        MaskError: for a mask that holds an undeclared value, naming both.
        ValueError: for a negative number of workers.
    """
    if num_workers < 0:
        raise ValueError(f"num_workers: must be at least 0, got {num_workers}")
    device = next(model.parameters()).device
    loader = DataLoader(
        dataset,
        sampler=ShardedSampler(len(dataset), rank=rank(), world_size=world_size()),
        num_workers=num_workers,
        worker_init_fn=init_worker,
        collate_fn=collate_evaluation,
    )
    metric = SegmentationMetric(len(dataset.files.masks.class_names), device)
    with evaluating(model):
        for images, labels in loader:
            with torch.autocast(device.type, autocast, enabled=autocast is not None):
                found = model(images._replace(pixels=images.pixels.to(device)))
            for own, expected in zip(found, labels, strict=True):
                metric.update(own, expected.to(device))
            progress(len(labels))
    state = metric.state()
    if world_size() > 1:
        dist.all_reduce(state)
    return metric.compute(state)
