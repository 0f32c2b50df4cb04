"""`piip bench`: how long models take."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from PIL import Image

from piip.cli.console import (
    check_json,
    check_picture,
    find_device,
    note,
    output,
    parse,
    progress_bar,
    read_size,
    write_json,
)
from piip.cli.cost_table import readable_bytes
from piip.cli.two_lines import two_line_table
from piip.costs.benchmark import Timing, benchmark
from piip.files import atomic_path
from piip.plots import Bar, plot_bars
from piip.precision import AUTOCAST, Precision
from piip.zoo.load import find_config

_HEAD = ("image", "median", "p10", "p90", "images/s", "memory", "ratio")
_SIZE_HINT = "(default: each model's)"
_MODELS = tyro.conf.arg(metavar="MODEL ...", help_behavior_hint="(at least one)")


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Measure latency, throughput and memory of models.

    They are measured in turn, in one run, with random weights and images.
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional, _MODELS]
    """Names of models (see piip models), or folders with config.json; ratios are to the first."""
    batch_size: int = 1
    """Images in a batch."""
    size: Annotated[tuple[int, ...], tyro.conf.arg(metavar="PIXELS", help_behavior_hint=_SIZE_HINT)] = ()
    """Side of the images, or their height and width."""
    rounds: int = 20
    """Batches of each model that are measured."""
    warmup: int = 3
    """Batches of each model before."""
    precision: Precision = "fp32"
    """Arithmetic."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes the GPU where there is one."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write what was measured as JSON to this file; - for standard output."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Draw the latencies into this picture."""


def run(arguments: list[str]) -> int:
    """Measure models.

    Raises:
        ValueError: when no model is named, or one twice.
    """
    options = parse(Arguments, "bench", arguments)
    if not options.models:
        raise ValueError("MODEL: none given; name models (see piip models): piip bench MODEL MODEL")
    if len(set(options.models)) < len(options.models):
        raise ValueError(f"MODEL: one is named twice in {' '.join(options.models)}")
    size, device = read_size(options.size), find_device(options.device)
    check_json(options.json)
    check_picture(options.plot)
    configs = {name: find_config(name) for name in options.models}
    with progress_bar() as bar:
        task = bar.add_task("measuring", total=len(configs) * (options.warmup + options.rounds))
        timings = benchmark(
            configs,
            device,
            batch_size=options.batch_size,
            image_size=size,
            rounds=options.rounds,
            warmup=options.warmup,
            autocast=AUTOCAST[options.precision],
            progress=lambda number: bar.advance(task, number),
        )
    title = f"{_device_name(device)}, {options.precision}, batches of {options.batch_size}"
    if options.json is not None:
        write_json({"setting": title, "models": [_as_json(timing, timings[0]) for timing in timings]}, options.json)
    if options.plot is not None:
        with atomic_path(options.plot) as temporary:
            _plot(title, timings).save(temporary, format="PNG")
    if str(options.json) != "-":
        rows = [(timing.name, _cells(timing, timings[0])) for timing in timings]
        output.print(two_line_table(_HEAD, rows), soft_wrap=True)
        output.print(f"{title}; ratios are to the first", style="dim", markup=False)
    if options.plot is not None:
        note(f"plot: {options.plot}")
    return 0


def _cells(timing: Timing, first: Timing) -> tuple[str, ...]:
    latencies = (timing.median, timing.percentile(10), timing.percentile(90))
    return (
        "x".join(map(str, timing.image_size)),
        *(f"{1000 * seconds:.1f} ms" for seconds in latencies),
        f"{timing.throughput:.1f}",
        "-" if timing.memory is None else readable_bytes(timing.memory.total),
        f"{timing.median / first.median:.2f}",
    )


def _as_json(timing: Timing, first: Timing) -> dict[str, Any]:
    return asdict(timing) | {
        "median": timing.median,
        "percentiles": {str(per_cent): timing.percentile(per_cent) for per_cent in (10, 25, 75, 90)},
        "throughput": timing.throughput,
        "ratio": timing.median / first.median,
    }


def _plot(title: str, timings: list[Timing]) -> Image.Image:
    bars = [
        Bar(
            name=timing.name,
            value=1000 * timing.median,
            low=1000 * timing.percentile(10),
            high=1000 * timing.percentile(90),
            text=f"{1000 * timing.median:.1f} ms, {timing.median / timings[0].median:.2f}",
        )
        for timing in timings
    ]
    return plot_bars(f"milliseconds for a batch: {title}", bars)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else device.type
