"""Evaluating a detector on a dataset in the format of COCO."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from piip.batches import collate_images
from piip.distributed import rank, world_size
from piip.files import atomic_path
from piip.held_out import held_out_batches
from piip.hub import evaluating
from piip.tasks.detection.data import EvaluationSet
from piip.tasks.detection.metric import CocoResult, DetectionScores, coco_results, coco_tools, score_results
from piip.tasks.detection.structures import Detections


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
    skip_unreadable: bool = False,
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
        skip_unreadable: leave out images that cannot be read, and their objects; see `held_out_batches`.
        progress: called with the number of images that were done since the last call, on this process.

    Raises:
        ImageError: for an image that cannot be read, naming it; with `skip_unreadable`, when none can be.
        ImportError: when faster-coco-eval is not installed.
        ValueError: for batches of nothing, or a negative number of workers.
    """
    coco_tools()  # so that the lack of them is told now, and not when all is done
    device = next(model.parameters()).device
    batches = held_out_batches(
        dataset,
        partial(collate_images, size_divisor=size_divisor),
        batch_size=batch_size,
        num_workers=num_workers,
        skip_unreadable=skip_unreadable,
        progress=progress,
    )
    share = _Share()
    with evaluating(model):
        for indices, batch in batches:
            with torch.autocast(device.type, autocast, enabled=autocast is not None):
                found = model(batch._replace(pixels=batch.pixels.to(device)))
            for index, detections in zip(indices, found, strict=True):
                share.add(dataset, dataset.images[index], detections)
    return _score_everywhere(dataset, share, results_file)


@dataclass
class _Share:
    """What one process has found: the images that it has read, and the results in them."""

    images: list[int] = field(default_factory=list)
    results: list[CocoResult] = field(default_factory=list)
    with_masks: bool = False

    def add(self, dataset: EvaluationSet, image: int, detections: Detections) -> None:
        self.images.append(image)
        self.results += coco_results(dataset.annotations, image, detections)
        self.with_masks |= detections.mask_probs is not None


def _score_everywhere(dataset: EvaluationSet, share: _Share, results_file: Path | None) -> DetectionScores:
    """Gathers the results of all processes in the first one, which scores them and tells the others."""
    parts: list[_Share | None] = [None] * world_size()
    parts[0] = share
    if world_size() > 1:
        dist.gather_object(share, parts if rank() == 0 else None)
    scores: list[Any] = [None]
    if rank() == 0:
        gathered = [part for part in parts if part is not None]
        images = sorted(image for part in gathered for image in part.images)
        everything = [result for part in gathered for result in part.results]
        everything.sort(key=lambda result: result["image_id"])  # stable: the same on any number of processes
        if results_file is not None:
            with atomic_path(results_file) as temporary:
                temporary.write_text(json.dumps(everything), encoding="utf-8")
        with_masks = any(part.with_masks for part in gathered)
        scores[0] = score_results(dataset.annotations, images, everything, with_masks=with_masks)
    if world_size() > 1:
        dist.broadcast_object_list(scores)
    return scores[0]
