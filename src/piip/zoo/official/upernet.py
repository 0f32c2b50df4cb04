"""The official constructor arguments of UperNet, an `EncoderDecoder` there, as our configuration.

The official dict says some things several times (channels, classes) and some that its code has no choice about. All of
it is read, and what cannot be meant or run is refused.
"""

from collections.abc import Mapping
from types import NoneType

from piip.config import ConfigError, nearest
from piip.pyramid import BackboneConfig
from piip.tasks.segmentation.upernet import (
    FCNHeadConfig,
    SlidingInference,
    UperHeadConfig,
    UperNetConfig,
    WholeInference,
)
from piip.tasks.segmentation.upernet.inference import Inference
from piip.zoo.official import segmentation
from piip.zoo.official.arguments import Arguments

CLASSES = ("EncoderDecoder",)


def upernet_config(arguments: Arguments) -> UperNetConfig:
    """Translate the arguments of the official `EncoderDecoder` with an `UPerHead`.

    How images are prepared is not among them: the result has the usual preprocessing.

    Raises:
        ConfigError: for a part, argument or value that is not known or cannot be run, naming it.
    """
    arguments.ignore("pretrained", "init_cfg")  # where weights start from
    arguments.part("train_cfg").finish()
    backbone = _backbone(arguments.part("backbone"))
    with arguments.blamed():
        decode_head, num_classes = _decode_head(arguments.part("decode_head", "UPerHead"), backbone)
        auxiliary_head = None
        if arguments.get("auxiliary_head", (Mapping, NoneType), None) is not None:
            auxiliary_head = _auxiliary_head(arguments.part("auxiliary_head", "FCNHead"), backbone, num_classes)
        inference = _inference(arguments.part("test_cfg"))
        arguments.finish()
        return UperNetConfig(
            backbone=backbone,
            num_classes=num_classes,
            decode_head=decode_head,
            auxiliary_head=auxiliary_head,
            inference=inference,
        )


def _backbone(arguments: Arguments) -> BackboneConfig:
    name = arguments.get("type", str)
    if name not in segmentation.CLASSES:
        known = nearest(name, list(segmentation.CLASSES))
        raise ConfigError(f"{arguments.where}.type: {name!r} is not an official backbone{known}")
    return segmentation.backbone_config(arguments)


def _decode_head(head: Arguments, backbone: BackboneConfig) -> tuple[UperHeadConfig, int]:
    head.expect("in_channels", list(backbone.channels))
    head.expect("in_index", list(range(len(backbone.levels))))
    num_classes = head.get("num_classes", int)
    config = UperHeadConfig(
        channels=head.get("channels", int),
        pool_scales=head.get("pool_scales", (list, tuple)),
        dropout=head.number("dropout_ratio"),
        loss_weight=_loss_weight(head),
    )
    _finish(head)
    return config, num_classes


def _auxiliary_head(head: Arguments, backbone: BackboneConfig, num_classes: int) -> FCNHeadConfig:
    level = head.get("in_index", int)
    if level not in range(len(backbone.levels)):
        raise ConfigError(
            f"{head.where}.in_index: {level} is none of the backbone's {len(backbone.levels)} maps, counted from 0"
        )
    head.expect("in_channels", backbone.channels[level])
    head.expect("num_classes", num_classes)
    head.expect("concat_input", False)
    config = FCNHeadConfig(
        level=level,
        channels=head.get("channels", int),
        num_convs=head.get("num_convs", int),
        dropout=head.number("dropout_ratio"),
        loss_weight=_loss_weight(head),
    )
    _finish(head)
    return config


def _loss_weight(head: Arguments) -> float:
    loss = head.part("loss_decode", "CrossEntropyLoss")
    loss.expect("use_sigmoid", False)
    loss.choose("avg_non_ignore", {False: False}, False)
    weight = loss.number("loss_weight")
    loss.finish()
    return weight


def _finish(head: Arguments) -> None:
    norm = head.part("norm_cfg")
    norm.choose("type", {"SyncBN": "SyncBN", "BN": "BN"})  # ours is the first on several processes, the second on one
    norm.choose("requires_grad", {True: True}, True)
    norm.finish()
    head.expect("align_corners", False)
    head.finish()


def _inference(test: Arguments) -> Inference:
    slides = test.choose("mode", {"whole": False, "slide": True})
    if not slides:
        test.ignore("crop_size", "stride")
        test.finish()
        return WholeInference()
    inference = SlidingInference(crop=test.get("crop_size", (list, tuple)), stride=test.get("stride", (list, tuple)))
    test.finish()
    return inference
