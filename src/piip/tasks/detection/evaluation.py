"""Evaluating a detector on a dataset in the format of COCO."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader

from piip.distributed import rank, world_size
from piip.files import atomic_path
from piip.sampling import ShardedSampler
from piip.tasks.detection.data import EvaluationSet, collate_images
from piip.tasks.detection.metric import CocoResult, DetectionScores, coco_results, coco_tools, score_results
from piip.tasks.detection.structures import Detections
from piip.workers import init_worker


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    dataset: EvaluationSet,
    *,
    size_divisor: int,
    batch_size: int = 1,
    num_workers: int = 0,
    autocast: torch.dtype | None = None,
    results_file: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> DetectionScores:
    """Score a detector on every image of a dataset, each counted once.

    Where `torch.distributed` is set up, the images are shared out over its processes, and all get the scores of all.

    Args:
        model: takes an `ImageBatch` and gives a list of `Detections`; on the device to compute on. Its training mode is
            restored.
        dataset: with the model's own preprocessing.
        size_divisor: of the model's preprocessing.
        batch_size: images in a batch of this process. With 1, as in the official release, no image is padded to the
            size of another one, which changes what is found a little.
        num_workers: processes that read images; 0 reads them in this one.
        autocast: the type to compute in where that is safe, or None for float32.
        results_file: gets all detections, as JSON in COCO's format, from the first process.
        progress: called with the number of images that were done since the last call, on this process.

    Raises:
        ImageError: for an image that cannot be read, naming it.
        ImportError: when faster-coco-eval is not installed.
        ValueError: for batches of nothing, or a negative number of workers.
    """
    for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
        if value < least:
            raise ValueError(f"{name}: must be at least {least}, got {value}")
    coco_tools()  # so that the lack of them is told now, and not when all is done
    device = next(model.parameters()).device
    shard = list(ShardedSampler(len(dataset), rank=rank(), world_size=world_size()))
    chunks = [shard[start : start + batch_size] for start in range(0, len(shard), batch_size)]
    loader = DataLoader(
        dataset,
        batch_sampler=chunks,
        num_workers=num_workers,
        worker_init_fn=init_worker,
        collate_fn=partial(collate_images, size_divisor=size_divisor),
    )
    results: list[CocoResult] = []
    with_masks = False
    was_training = model.training
    model.eval()
    try:
        for indices, batch in zip(chunks, loader, strict=True):
            with torch.autocast(device.type, autocast, enabled=autocast is not None):
                found: list[Detections] = model(batch._replace(pixels=batch.pixels.to(device)))
            for index, detections in zip(indices, found, strict=True):
                results += coco_results(dataset.annotations, dataset.images[index], detections)
                with_masks |= detections.mask_probs is not None
            progress(len(found))
    finally:
        model.train(was_training)
    return _score_everywhere(dataset, results, with_masks, results_file)


def _score_everywhere(
    dataset: EvaluationSet, results: list[CocoResult], with_masks: bool, results_file: Path | None
) -> DetectionScores:
    """Gathers the results of all processes in the first one, which scores them and tells the others."""
    parts: list[tuple[list[CocoResult], bool] | None] = [None] * world_size()
    parts[0] = (results, with_masks)
    if world_size() > 1:
        dist.gather_object((results, with_masks), parts if rank() == 0 else None)
    scores: list[DetectionScores | None] = [None]
    if rank() == 0:
        gathered = [part for part in parts if part is not None]
        everything = [result for part, _ in gathered for result in part]
        everything.sort(key=lambda result: result["image_id"])  # stable: the same on any number of processes
        if results_file is not None:
            with atomic_path(results_file) as temporary:
                temporary.write_text(json.dumps(everything), encoding="utf-8")
        has_masks = any(part_has_masks for _, part_has_masks in gathered)
        scores[0] = score_results(dataset.annotations, dataset.images, everything, with_masks=has_masks)
    if world_size() > 1:
        dist.broadcast_object_list(scores)
    if scores[0] is None:
        raise RuntimeError("the first process sent no scores")
    return scores[0]
