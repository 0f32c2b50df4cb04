"""The tables of what a model costs."""

from collections.abc import Mapping

from rich.table import Column, Table

from piip.costs import GIB, OFFICIAL_HEAD, Cost, Fit, PartCost
from piip.precision import AUTOCAST, Precision

_REBUILT = (
    "Official: as the release counts for its tables, where a detector or segmentor is rebuilt as a "
    "classifier: without the convolutions that merge its branches, levels, feature pyramid and heads. All: "
    "everything that is run."
)
_BACKBONE = (
    "Official: as the release counts for its table of backbones that are not of ViTs alone: up to the merging, without "
    "levels, feature pyramid and heads. All: everything that is run."
)
_CLASSIFIER = (
    "Official: as the release counts for its tables, with norms, and the sampling of deformable attention at full "
    "width. All: everything that is run, without norms."
)
_AUTOCAST = " autocast, with weights in fp32 that are cast for each batch"
_MEMORY = (
    "without what operators allocate for themselves; of the GPU a tenth is left free. Training is with AdamW, without "
    "activation checkpointing unless the model has it, and, of DINO, without denoising queries."
)


def cost_table(cost: Cost) -> Table:
    """Parameters and multiply-adds of each part, by the official count and in all."""
    height, width = cost.image_size
    figures = ("official\nparams", "official\nFLOPs", "all\nparams", "all\nFLOPs", "share")
    columns = [Column(name, justify="right", no_wrap=True) for name in figures]
    table = Table(Column("part", no_wrap=True), *columns, title=f"cost of {height} x {width} px", title_justify="left")
    for part in cost.parts:
        share = "" if part.flops is None or not cost.flops else f"{100 * part.flops / cost.flops:.1f} %"
        table.add_row(part.name, *_figures(part), share)
    table.add_section()
    table.add_row("[bold]all[/]", *(f"[bold]{figure}[/]" for figure in _figures(cost)))
    return table


def cost_note(cost: Cost) -> str:
    """What the two counts are of."""
    if any(part.name == OFFICIAL_HEAD for part in cost.parts):
        note = _REBUILT
    else:
        note = _BACKBONE if any(part.official_flops is None for part in cost.parts) else _CLASSIFIER
    return f"A multiply-add counts once. {note}"


def memory_note(precision: Precision) -> str:
    """What the estimates of memory are of."""
    return f"Estimated for {precision}{'' if AUTOCAST[precision] is None else _AUTOCAST}, {_MEMORY}"


def memory_table(fits: Mapping[str, Fit], gpu: float, image_size: tuple[int, int]) -> Table:
    """What batches take to do something, and how many images fit on a GPU with so many GiB."""
    height, width = image_size
    batch_sizes = sorted({batch_size for fit in fits.values() for batch_size in fit.memory})
    heads = "weights", "AdamW", *map(_images, batch_sizes), f"fit in\n{gpu:g} GiB"
    columns = [Column(head, justify="right", no_wrap=True) for head in heads]
    table = Table("", *columns, title=f"memory for {height} x {width} px", title_justify="left")
    for what, fit in fits.items():
        steps = [readable_bytes(fit.memory[size].step) if size in fit.memory else "-" for size in batch_sizes]
        any_batch = next(iter(fit.memory.values()))
        weights, optimizer = readable_bytes(any_batch.weights), readable_bytes(any_batch.optimizer)
        table.add_row(what, weights, optimizer, *steps, _images(fit.most_images))
    return table


def readable_bytes(number: int) -> str:
    """A number of bytes, with a unit that fits it."""
    return f"{number / GIB:.2f} GiB" if number >= GIB else f"{number / 1024**2:.1f} MiB"


def _images(count: int) -> str:
    return "none" if not count else f"{count} image{'s' * (count > 1)}"


def _figures(cost: Cost | PartCost) -> tuple[str, str, str, str]:
    return (
        "-" if cost.official_params is None else f"{cost.official_params / 1e6:.2f}M",
        "-" if cost.official_flops is None else _operations(cost.official_flops),
        "-" if cost.params is None else f"{cost.params / 1e6:.2f}M",
        "-" if cost.flops is None else _operations(cost.flops),
    )


def _operations(number: int) -> str:
    return f"{number / 1e9:.2f}G" if number >= 1e9 else f"{number / 1e6:.2f}M"
