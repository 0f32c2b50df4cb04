"""The tables of detectors: their scores, and what they are made of."""

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

from piip.cli.tasks.parts import input_row, interaction_row, levels, merging, millions
from piip.tasks.detection.detector import Detector, DetectorConfig
from piip.tasks.detection.dino.model import DINO, DINOConfig
from piip.tasks.detection.mask_rcnn.model import MaskRCNN, MaskRCNNConfig
from piip.tasks.detection.metric import CocoScores

_MEASURES = {
    "AP": "ap",
    "AP50": "ap50",
    "AP75": "ap75",
    "APs": "ap_small",
    "APm": "ap_medium",
    "APl": "ap_large",
    "AR1": "ar_1",
    "AR10": "ar_10",
    "AR100": "ar_100",
    "ARs": "ar_small",
    "ARm": "ar_medium",
    "ARl": "ar_large",
}


def score_table(num_images: int, kinds: Mapping[str, CocoScores]) -> Table:
    """COCO's twelve numbers, a row for boxes and one for masks."""
    columns = [Column(name, justify="right", no_wrap=True) for name in _MEASURES]
    table = Table(
        "",
        *columns,
        title=f"{num_images} image{'s' * (num_images != 1)}",
        title_justify="left",
        box=SIMPLE_HEAD,  # the widest numbers just fit into 80 columns
        show_edge=False,
        padding=0,
    )
    for kind, scores in kinds.items():
        table.add_row(kind, *(_figure(getattr(scores, field)) for field in _MEASURES.values()))
    return table


def class_table(class_names: Sequence[str], kinds: Mapping[str, CocoScores]) -> Table:
    """The AP of each class."""
    table = Table("class", *(Column(f"{kind} AP", justify="right") for kind in kinds))
    for label, name in enumerate(class_names):
        table.add_row(escape(name), *(_figure(scores.per_class[label]) for scores in kinds.values()))
    return table


def mask_rcnn_table(config: MaskRCNNConfig, model: MaskRCNN) -> Table:
    """How images are prepared, and what comes after the branches."""
    box_head, mask_head = config.box_head, config.mask_head
    table = _backbone_table(config, model)
    strides = ", ".join(map(str, config.fpn.strides(config.backbone.strides)))
    table.add_row("FPN", f"{config.fpn.channels} channels; strides {strides}", millions(model.fpn))
    proposals = config.rpn.proposals.count
    table.add_row("RPN", f"{proposals} proposals at most", millions(model.rpn))
    table.add_row(
        "box head",
        f"{config.num_classes} classes; {box_head.hidden_dim} wide, on {box_head.pool_size} x {box_head.pool_size} "
        f"cells; {box_head.max_detections} objects at most",
        millions(model.box_head),
    )
    table.add_row(
        "mask head",
        f"{mask_head.num_convs} layers, {mask_head.channels} channels; masks of {mask_head.mask_size} x "
        f"{mask_head.mask_size} cells",
        millions(model.mask_head),
    )
    table.add_row("[bold]all[/]", "", f"[bold]{millions(model)}[/]")
    return table


def dino_table(config: DINOConfig, model: DINO) -> Table:
    """How images are prepared, and what comes after the branches."""
    transformer = config.transformer
    table = _backbone_table(config, model)
    table.add_row("neck", f"{transformer.num_levels} maps, {transformer.embed_dim} channels", millions(model.neck))
    table.add_row(
        "encoder", f"{transformer.encoder_layers} layers, {transformer.mlp_dim} wide", millions(model.encoder)
    )
    table.add_row("selection", f"{config.num_queries} queries", millions(model.selection))
    table.add_row(
        "decoder",
        f"{transformer.decoder_layers} layers, {transformer.mlp_dim} wide; {config.num_classes} classes; "
        f"{config.max_detections} objects at most",
        millions(model.decoder),
    )
    table.add_row("denoising", f"{config.denoising.num_queries} pairs, in training only", millions(model.denoising))
    table.add_row("[bold]all[/]", "", f"[bold]{millions(model)}[/]")
    return table


def _backbone_table(config: DetectorConfig, model: Detector) -> Table:
    backbone, preprocess = config.backbone, config.preprocess
    longest, shortest = preprocess.scale
    prepared = f"up to {longest} x {shortest} px, padded to multiples of {preprocess.size_divisor}"
    table = Table("part", "what", "params")
    table.add_row(*input_row(prepared, preprocess.mean, preprocess.std))
    table.add_row(*interaction_row(backbone.pyramid, model.backbone.pyramid))
    table.add_row("merging", merging(backbone), millions(model.backbone.merging))
    table.add_row("levels", levels(backbone), millions(model.backbone.levels))
    return table


def _figure(score: float | None) -> str:
    return "-" if score is None else f"{score:.1f}"
