"""How long models take, measured in turn in one run."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from piip.checks import check_count
from piip.costs.memory import Memory, measure_memory
from piip.costs.workloads import Runner, image_shape
from piip.tasks.models import AnyModelConfig


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What was measured of one model.

    Attributes:
        name: of the model.
        image_size: height and width of the images.
        batch_size: images in a batch.
        seconds: that each batch took.
        memory: what a batch takes; None where it was not measured.
    """

    name: str
    image_size: tuple[int, int]
    batch_size: int
    seconds: tuple[float, ...]
    memory: Memory | None = None

    @property
    def median(self) -> float:
        """Seconds that half of the batches took at most."""
        return statistics.median(self.seconds)

    @property
    def throughput(self) -> float:
        """Images a second, at the median."""
        return self.batch_size / self.median

    def percentile(self, per_cent: float) -> float:
        """Seconds that so many per cent of the batches took at most, between those that were measured."""
        ranked, place = sorted(self.seconds), per_cent / 100 * (len(self.seconds) - 1)
        low = int(place)
        high = min(low + 1, len(ranked) - 1)
        return ranked[low] + (place - low) * (ranked[high] - ranked[low])


def benchmark(
    models: Mapping[str, AnyModelConfig],
    device: torch.device,
    *,
    batch_size: int = 1,
    image_size: int | tuple[int, int] | None = None,
    rounds: int = 20,
    warmup: int = 3,
    autocast: torch.dtype | None = None,
    with_memory: bool = True,
    progress: Callable[[int], Any] = lambda _: None,
) -> list[Timing]:
    """Measure how long models take for a batch.

    All are held at once, and run in turn: a round is a batch of each, every round in another order, so that what slows
    the machine down for a while slows all of them down. Weights and images are random. A detector is run as for `cost`:
    with as many boxes as there can be, and without choosing them.

    Args:
        models: configurations by the names of the models.
        device: where to run them.
        batch_size: images in a batch.
        image_size: side of the images, or height and width; None for that of each configuration.
        rounds: batches of each model that are measured.
        warmup: batches of each model before.
        autocast: the type to compute in where that is safe; None for float32.
        with_memory: whether to measure what a batch takes, in a run before.
        progress: is called with the number of batches that were done.

    Raises:
        ValueError: for no batch or no image.
        torch.OutOfMemoryError: when the models do not fit together.
    """
    batch_size, rounds = check_count("batch_size", batch_size), check_count("rounds", rounds)
    warmup = check_count("warmup", warmup, least=0)
    memory = {
        name: measure_memory(config, device, batch_size=batch_size, image_size=image_size, autocast=autocast)
        for name, config in models.items()
        if with_memory
    }
    with torch.inference_mode(), torch.autocast(device.type, autocast, enabled=autocast is not None):
        shapes = {name: image_shape(config, image_size) for name, config in models.items()}
        with device:
            runners = {name: Runner(config).eval() for name, config in models.items()}
            batches = {name: torch.randn(batch_size, *shape) for name, shape in shapes.items()}
        seconds: dict[str, list[float]] = {name: [] for name in models}
        order = list(models)
        for number in range(warmup + rounds):
            for name in order[number % len(order) :] + order[: number % len(order)]:
                taken = _time(runners[name], batches[name], device)
                if number >= warmup:
                    seconds[name].append(taken)
                progress(1)
    return [
        Timing(
            name=name,
            image_size=shapes[name][1:],
            batch_size=batch_size,
            seconds=tuple(seconds[name]),
            memory=memory.get(name),
        )
        for name in models
    ]


def _time(runner: Runner, images: torch.Tensor, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    runner(images)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
