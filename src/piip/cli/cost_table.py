"""The table of what a model costs."""

from rich.table import Column, Table

from piip.cost import OFFICIAL_HEAD, Cost, PartCost

_REBUILT = (
    "Official: as the release counts for its tables, where a detector is rebuilt as a classifier: without the "
    "convolutions that merge its branches, levels, feature pyramid and heads. All: everything that is run."
)
_BACKBONE = (
    "Official: as the release counts for its table of backbones that are not of ViTs alone: up to the merging, without "
    "levels, feature pyramid and heads. All: everything that is run."
)
_CLASSIFIER = (
    "Official: as the release counts for its tables, with norms, and the sampling of deformable attention at full "
    "width. All: everything that is run, without norms."
)


def cost_table(cost: Cost) -> Table:
    """Parameters and multiply-adds of each part, by the official count and in all."""
    height, width = cost.image_size
    columns = [
        Column(name, justify="right", no_wrap=True)
        for name in ("official params", "official FLOPs", "all params", "all FLOPs", "share")
    ]
    table = Table(f"cost of {height} x {width} px", *columns)
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


def _figures(cost: Cost | PartCost) -> tuple[str, str, str, str]:
    return (
        _scaled(cost.official_params, 1e6, "M"),
        _scaled(cost.official_flops, 1e9, "G"),
        _scaled(cost.params, 1e6, "M"),
        _scaled(cost.flops, 1e9, "G"),
    )


def _scaled(number: int | None, unit: float, sign: str) -> str:
    return "-" if number is None else f"{number / unit:.2f}{sign}"
