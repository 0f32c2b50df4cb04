"""Time the kernels of deformable attention at the shapes of PIIP's interactions.

python benchmarks/deformable_attention.py --threads 1 --repeats 20
"""

import dataclasses
import functools
import itertools
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from piip.ops import deformable_attention

PATCH_SIZE = 16
HEADS = 16
POINTS = 4
VALUE_RATIO = 0.5
KERNELS: tuple[Literal["reference", "gather"], ...] = ("reference", "gather")

# (width, image size) of each branch, branch 1 first.
MODELS = {
    "TSB 1120/896/448": ((768, 448), (384, 896), (192, 1120)),
    "SBL 1568/1120/672": ((1024, 672), (768, 1120), (384, 1568)),
    "H6B 1024/512": ((3200, 512), (1280, 1024)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """One direction of one interaction: a grid of queries that look at the neighbour's grid."""

    model: str
    batch: int
    query_grid: int
    value_grid: int
    head_dim: int

    def __str__(self) -> str:
        return f"{self.query_grid}² → {self.value_grid}², {self.head_dim}"

    def inputs(self, device: str) -> tuple[Tensor, Tensor, Tensor]:
        """Samples scattered a few cells around their query, as in a trained model."""
        generator = torch.Generator().manual_seed(0)
        centres = (torch.arange(self.query_grid) + 0.5) / self.query_grid
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        queries = self.query_grid**2
        offsets = 2 * torch.randn(self.batch, queries, HEADS, 1, POINTS, 2, generator=generator)
        locations = torch.stack((x, y), dim=-1).view(1, queries, 1, 1, 1, 2) + offsets / self.value_grid
        weights = torch.randn(self.batch, queries, HEADS, 1, POINTS, generator=generator).softmax(-1)
        value = torch.randn(self.batch, self.value_grid**2, HEADS, self.head_dim, generator=generator)
        return value.to(device), locations.to(device), weights.to(device)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """Median seconds of every kernel for one shape."""

    shape: Shape
    backward: bool
    seconds: dict[str, float]

    def speedup(self, kernel: str) -> float:
        return self.seconds["reference"] / self.seconds[kernel]


def shapes(batches: tuple[int, ...]) -> Iterator[Shape]:
    for batch in batches:
        for model, branches in MODELS.items():
            for (low_width, low_size), (high_width, high_size) in itertools.pairwise(branches):
                low, high = low_size // PATCH_SIZE, high_size // PATCH_SIZE
                for query, value, width in ((high, low, high_width), (low, high, low_width)):
                    head_dim = int(width * VALUE_RATIO) // HEADS
                    yield Shape(model=model, batch=batch, query_grid=query, value_grid=value, head_dim=head_dim)


def measure(shape: Shape, *, backward: bool, repeats: int, device: str) -> Timing:
    """Time the kernels by turns, so that whatever else the machine does falls on all of them."""
    tensors = [tensor.requires_grad_(backward) for tensor in shape.inputs(device)]
    spatial_shapes = ((shape.value_grid, shape.value_grid),)
    cotangent = torch.ones(shape.batch, shape.query_grid**2, HEADS * shape.head_dim, device=device)

    def run(kernel: Literal["reference", "gather"]) -> None:
        output = deformable_attention(tensors[0], spatial_shapes, *tensors[1:], kernel=kernel)
        if backward:
            torch.autograd.grad(output, tensors, cotangent)

    seconds: dict[str, list[float]] = {kernel: [] for kernel in KERNELS}
    for repeat in range(repeats + 1):
        for kernel in KERNELS:
            elapsed = clock(functools.partial(run, kernel), device)
            if repeat:  # the first round warms up
                seconds[kernel].append(elapsed)
    return Timing(
        shape=shape,
        backward=backward,
        seconds={kernel: statistics.median(values) for kernel, values in seconds.items()},
    )


def clock(function: Callable[[], None], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def render(timings: list[Timing], title: str) -> Table:
    table = Table(title=title, caption="query grid → value grid, head_dim; medians in ms; f+b: forward and backward")
    for column in ("model", "shape"):
        table.add_column(column, no_wrap=True)
    for column in ("batch", "fwd ref", "gather", "gain", "f+b ref", "gather", "gain"):
        table.add_column(column, justify="right", no_wrap=True)
    pairs = list(zip(timings[::2], timings[1::2], strict=True))
    for index, pair in enumerate(pairs):
        shape = pair[0].shape
        cells = [str(shape.batch)]
        for timing in pair:
            cells += [f"{1000 * timing.seconds[kernel]:.1f}" for kernel in KERNELS]
            cells.append(f"{timing.speedup('gather'):.2f}")
        last = index + 1 == len(pairs) or pairs[index + 1][0].shape.model != shape.model
        table.add_row(shape.model, str(shape), *cells, end_section=last)
    forward, both = (f"{mean:.2f}" for mean in geometric_means(timings))
    table.add_row("geometric mean", "", "", "", "", forward, "", "", both, style="bold")
    return table


def geometric_means(timings: list[Timing]) -> tuple[float, float]:
    """Speedups of the gather kernel over the reference: forward, forward and backward."""
    forward, both = (
        statistics.geometric_mean(timing.speedup("gather") for timing in timings if timing.backward == backward)
        for backward in (False, True)
    )
    return forward, both


def main(
    threads: int = 1,
    repeats: int = 10,
    batches: tuple[int, ...] = (1, 2),
    device: Literal["cpu", "cuda"] = "cpu",
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Time the kernels of deformable attention at the shapes of PIIP's interactions.

    Args:
        threads: CPU threads.
        repeats: Timed runs of each kernel, of which the median counts.
        batches: Batch sizes.
        device: Where to run.
        json_file: File to write the timings to.
    """
    torch.set_num_threads(threads)
    console = Console(width=None if sys.stdout.isatty() else 100)
    work = [(shape, backward) for shape in shapes(batches) for backward in (False, True)]
    timings = [
        measure(shape, backward=backward, repeats=repeats, device=device)
        for shape, backward in track(work, description="Timing", console=console, transient=True)
    ]
    console.print(render(timings, f"Deformable attention on {device}, {threads} thread(s), torch {torch.__version__}"))
    if json_file is not None:
        forward, both = geometric_means(timings)
        report = {
            "machine": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "device": device,
            "threads": threads,
            "repeats": repeats,
            "speedup": {"forward": forward, "forward_backward": both},
            "timings": [dataclasses.asdict(timing) for timing in timings],
        }
        json_file.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
