"""Where the time of a training step of DINO goes: what share the matcher and the denoising queries take.

    python benchmarks/dino_step.py [--size 448] [--objects 8] [--batch-size 2]

The transformer is that of the release, with 900 queries and 12 layers, on a small backbone: on a larger one, the shares
are smaller still.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import scipy.optimize
import torch
import tyro
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function

from piip import DINO, BackboneConfig, DINOConfig, InteractionConfig, PyramidConfig, simple_pyramid, vit
from piip.batches import ImageBatch
from piip.tasks.detection.dino import denoising, matching, model
from piip.tasks.detection.structures import Target

_PARTS = {
    "denoising queries": (denoising.DenoisingGenerator, "forward"),
    "which queries are blocked": (model, "blocked_pairs"),
    "matching": (model, "match"),
    "of that, the costs": (matching, "match_costs"),
    "of that, SciPy": (scipy.optimize, "linear_sum_assignment"),
    "losses of the matches": (model, "matching_losses"),
    "losses of the denoising queries": (model, "denoising_losses"),
}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Measure one training step on the CPU."""

    size: int = 448
    """Side of the images in pixels."""
    objects: int = 8
    """Objects of each image."""
    batch_size: int = 2
    """Images in the step."""
    threads: int = 1
    """Threads of PyTorch."""


def main(arguments: Arguments) -> None:
    """Run one step to warm up and one that is measured, and print the shares."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    dino, images, targets = _dino(arguments.size), _images(arguments), _targets(arguments)
    for owner, name in _PARTS.values():
        setattr(owner, name, _recorded(getattr(owner, name), name))
    _step(dino, images, targets)
    with profile(activities=[ProfilerActivity.CPU]) as profiler, record_function("step"):
        _step(dino, images, targets)
    totals = {event.key: event.cpu_time_total for event in profiler.key_averages()}
    print(f"step: {totals['step'] / 1e3:.0f} ms")
    for what, (_, name) in _PARTS.items():
        print(f"{what}: {totals[name] / 1e3:.2f} ms, {100 * totals[name] / totals['step']:.2f} %")


def _dino(size: int) -> DINO:
    branches = (vit("small", image_size=size // 2, class_token=False), vit("tiny", image_size=size, class_token=False))
    pyramid = PyramidConfig(branches=branches, interaction=InteractionConfig(num_heads=6))
    return DINOConfig(backbone=BackboneConfig(pyramid=pyramid, levels=simple_pyramid(2, 1, 0.5))).build().train()


def _images(arguments: Arguments) -> ImageBatch:
    size, count = arguments.size, arguments.batch_size
    return ImageBatch(torch.randn(count, 3, size, size), ((size, size),) * count, ((size, size),) * count)


def _targets(arguments: Arguments) -> list[Target]:
    targets = []
    for _ in range(arguments.batch_size):
        corners = torch.rand(arguments.objects, 2) * arguments.size / 2
        sides = torch.rand(arguments.objects, 2) * arguments.size / 2
        targets.append(Target(torch.cat((corners, corners + sides), 1), torch.randint(80, (arguments.objects,))))
    return targets


def _recorded(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        with record_function(name):
            return function(*arguments)

    return call


def _step(dino: DINO, images: ImageBatch, targets: list[Target]) -> None:
    losses: dict[str, Tensor] = dino(images, targets)
    torch.stack(list(losses.values())).sum().backward()


if __name__ == "__main__":
    main(tyro.cli(Arguments))
