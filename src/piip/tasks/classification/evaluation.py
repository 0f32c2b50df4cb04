"""Evaluating a classifier on a folder of labelled images."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch.utils.data import default_collate

from piip.distributed import world_size
from piip.held_out import held_out_batches
from piip.hub import evaluating
from piip.tasks.classification.data import ImageFolder
from piip.tasks.classification.metric import ClassificationMetric, ClassificationScores
from piip.tasks.classification.model import ClassificationModel


@torch.inference_mode()
def evaluate(
    model: ClassificationModel,
    dataset: ImageFolder,
    *,
    batch_size: int = 64,
    num_workers: int = 0,
    autocast: torch.dtype | None = None,
    skip_unreadable: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> ClassificationScores:
    """Score a model on every image of a dataset, each counted once.

    Where `torch.distributed` is set up, the images are shared out over its processes, and all get the scores of all.

    Args:
        model: on the device to compute on; its training mode is restored.
        dataset: with the model's own preprocessing.
        batch_size: images in a batch of this process.
        num_workers: processes that read images; 0 reads them in this one.
        autocast: the type to compute in where that is safe, or None for float32.
        skip_unreadable: leave out images that cannot be read; see `held_out_batches`.
        progress: called with the number of images that were done since the last call, on this process.

    Raises:
        ImageError: for an image that cannot be read, naming it; with `skip_unreadable`, when none can be.
        ValueError: for a model without classes, a dataset with labels that it does not know, batches of nothing, or a
            negative number of workers.
    """
    model.require_classes()
    num_classes = model.config.head.num_classes
    if len(dataset.class_names) > num_classes:
        raise ValueError(f"dataset: {len(dataset.class_names)} classes, but the model knows {num_classes}")
    device = next(model.parameters()).device
    batches = held_out_batches(
        dataset,
        default_collate,
        batch_size=batch_size,
        num_workers=num_workers,
        pin_memory=device.type == "cuda",
        skip_unreadable=skip_unreadable,
        progress=progress,
    )
    metric = ClassificationMetric(num_classes, device)
    with evaluating(model):
        for _, (images, labels) in batches:
            with torch.autocast(device.type, autocast, enabled=autocast is not None):
                logits = model(images.to(device, non_blocking=True))["logits"]
            metric.update(logits, labels.to(device, non_blocking=True))
    state = metric.state()
    if world_size() > 1:
        dist.all_reduce(state)
    return metric.compute(state)
