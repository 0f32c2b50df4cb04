"""The official constructor arguments of Mask R-CNN, as our configuration.

The official dict says some things several times (channels, classes) and some that its code has no choice about. All of
it is read, and what cannot be meant or run is refused.
"""

from collections.abc import Mapping
from typing import Any

from piip.config import ConfigError, nearest
from piip.pyramid import BackboneConfig
from piip.tasks.detection.mask_rcnn import (
    AnchorConfig,
    BoxCoder,
    BoxHeadConfig,
    FPNConfig,
    MaskHeadConfig,
    MaskRCNNConfig,
    MatcherConfig,
    ProposalConfig,
    RPNConfig,
    SamplerConfig,
)
from piip.zoo.official import detection
from piip.zoo.official.arguments import Arguments
from piip.zoo.official.branches import Architectures

CLASSES = ("MaskRCNN",)


def mask_rcnn_config(
    arguments: Arguments, state_dict: Mapping[str, Any] | None, convnexts: Architectures
) -> MaskRCNNConfig:
    """Translate the arguments of the official `MaskRCNN`.

    How images are prepared is not among them: the result has the usual preprocessing.

    Args:
        arguments: of the official class.
        state_dict: the checkpoint to be loaded, if there is one; see `build_model`.
        convnexts: architectures beside the usual ones.

    Raises:
        ConfigError: for a part, argument or value that is not known or cannot be run, naming it.
    """
    arguments.ignore("pretrained", "init_cfg")  # where weights start from
    backbone = _backbone(_part(arguments, "backbone"), state_dict, convnexts)
    training, test = _part(arguments, "train_cfg"), _part(arguments, "test_cfg")
    with arguments.blamed():
        fpn = _fpn(_part(arguments, "neck", "FPN"), backbone)
        rpn = _rpn(_part(arguments, "rpn_head", "RPNHead"), training, test, fpn, backbone)
        roi = _part(arguments, "roi_head", "StandardRoIHead")
        training_heads, test_heads = _part(training, "rcnn"), _part(test, "rcnn")
        box_head, num_classes = _box_head(roi, training_heads, test_heads, fpn, backbone)
        mask_head = _mask_head(roi, training_heads, test_heads, fpn, backbone, num_classes)
        for read in (training_heads, test_heads, training, test, roi, arguments):
            read.finish()
        return MaskRCNNConfig(
            backbone=backbone, num_classes=num_classes, fpn=fpn, rpn=rpn, box_head=box_head, mask_head=mask_head
        )


def _backbone(arguments: Arguments, state_dict: Mapping[str, Any] | None, convnexts: Architectures) -> BackboneConfig:
    name = arguments.get("type", str)
    if name not in detection.CLASSES:
        known = nearest(name, list(detection.CLASSES))
        raise ConfigError(f"{arguments.where}.type: {name!r} is not an official backbone{known}")
    return detection.backbone_config(arguments, state_dict, convnexts)


def _part(arguments: Arguments, name: str, kind: str | None = None) -> Arguments:
    part = Arguments(arguments.get(name, Mapping), f"{arguments.where}.{name}")
    if kind is not None:
        _expect(part, "type", kind)
    return part


def _expect(arguments: Arguments, name: str, expected: Any) -> None:
    """Read what has one possible value; numbers may be written as int or float, tuples as lists."""
    value = arguments.get(name, (object, bool))
    if (list(value) if isinstance(value, tuple) else value) != expected:
        raise ConfigError(f"{arguments.where}.{name}: expected {expected!r}, got {value!r}")


def _number(arguments: Arguments, name: str) -> float:
    return float(arguments.get(name, float))


def _fpn(neck: Arguments, backbone: BackboneConfig) -> FPNConfig:
    _expect(neck, "in_channels", list(backbone.channels))
    fpn = FPNConfig(channels=neck.get("out_channels", int), num_levels=neck.get("num_outs", int))
    neck.finish()
    return fpn


def _rpn(head: Arguments, training: Arguments, test: Arguments, fpn: FPNConfig, backbone: BackboneConfig) -> RPNConfig:
    _expect(head, "in_channels", fpn.channels)
    _expect(head, "feat_channels", fpn.channels)
    generator = _part(head, "anchor_generator", "AnchorGenerator")
    _expect(generator, "strides", list(fpn.strides(backbone.strides)))
    anchors = AnchorConfig(scales=generator.get("scales", (list, tuple)), ratios=generator.get("ratios", (list, tuple)))
    generator.finish()
    box_coder = _box_coder(head)
    _losses(head, use_sigmoid=True)
    head.finish()
    learning = _part(training, "rpn")
    _expect(learning, "allowed_border", -1)
    matcher, sampler = _matcher(learning), _sampler(learning, add_objects=False)
    learning.finish()
    return RPNConfig(
        anchors=anchors,
        box_coder=box_coder,
        matcher=matcher,
        sampler=sampler,
        training_proposals=_proposals(_part(training, "rpn_proposal")),
        proposals=_proposals(_part(test, "rpn")),
    )


def _box_head(
    roi: Arguments, training: Arguments, test: Arguments, fpn: FPNConfig, backbone: BackboneConfig
) -> tuple[BoxHeadConfig, int]:
    head = _part(roi, "bbox_head", "Shared2FCBBoxHead")
    _expect(head, "in_channels", fpn.channels)
    _expect(head, "reg_class_agnostic", False)
    num_classes = head.get("num_classes", int)
    pool_size = _pool_size(_part(roi, "bbox_roi_extractor", "SingleRoIExtractor"), fpn, backbone)
    _expect(head, "roi_feat_size", pool_size)
    config = BoxHeadConfig(
        hidden_dim=head.get("fc_out_channels", int),
        pool_size=pool_size,
        box_coder=_box_coder(head),
        matcher=_matcher(training),
        sampler=_sampler(training, add_objects=True),
        score_threshold=_number(test, "score_thr"),
        nms_iou=_nms_iou(test),
        max_detections=test.get("max_per_img", int),
    )
    _losses(head, use_sigmoid=False)
    head.finish()
    return config, num_classes


def _mask_head(
    roi: Arguments, training: Arguments, test: Arguments, fpn: FPNConfig, backbone: BackboneConfig, num_classes: int
) -> MaskHeadConfig:
    head = _part(roi, "mask_head", "FCNMaskHead")
    _expect(head, "in_channels", fpn.channels)
    _expect(head, "num_classes", num_classes)
    config = MaskHeadConfig(
        channels=head.get("conv_out_channels", int),
        num_convs=head.get("num_convs", int),
        pool_size=_pool_size(_part(roi, "mask_roi_extractor", "SingleRoIExtractor"), fpn, backbone),
    )
    loss = _part(head, "loss_mask", "CrossEntropyLoss")
    _expect(loss, "use_mask", True)
    _expect(loss, "loss_weight", 1.0)
    loss.finish()
    head.finish()
    _expect(training, "mask_size", config.mask_size)
    _expect(test, "mask_thr_binary", 0.5)
    return config


def _pool_size(extractor: Arguments, fpn: FPNConfig, backbone: BackboneConfig) -> int:
    _expect(extractor, "out_channels", fpn.channels)
    _expect(extractor, "featmap_strides", list(backbone.strides))
    layer = _part(extractor, "roi_layer", "RoIAlign")
    _expect(layer, "sampling_ratio", 0)
    size: int = layer.get("output_size", int)
    layer.finish()
    extractor.finish()
    return size


def _box_coder(head: Arguments) -> BoxCoder:
    coder = _part(head, "bbox_coder", "DeltaXYWHBBoxCoder")
    _expect(coder, "target_means", [0, 0, 0, 0])
    stds = coder.get("target_stds", (list, tuple))
    coder.finish()
    return BoxCoder(stds=stds)


def _losses(head: Arguments, *, use_sigmoid: bool) -> None:
    cross_entropy = _part(head, "loss_cls", "CrossEntropyLoss")
    _expect(cross_entropy, "use_sigmoid", use_sigmoid)
    for loss in (cross_entropy, _part(head, "loss_bbox", "L1Loss")):
        _expect(loss, "loss_weight", 1.0)
        loss.finish()


def _matcher(learning: Arguments) -> MatcherConfig:
    assigner = _part(learning, "assigner", "MaxIoUAssigner")
    _expect(assigner, "ignore_iof_thr", -1)
    low_quality_iou = _number(assigner, "min_pos_iou")
    matcher = MatcherConfig(
        positive_iou=_number(assigner, "pos_iou_thr"),
        negative_iou=_number(assigner, "neg_iou_thr"),
        low_quality_iou=low_quality_iou if assigner.get("match_low_quality", bool) else None,
    )
    assigner.finish()
    return matcher


def _sampler(learning: Arguments, *, add_objects: bool) -> SamplerConfig:
    sampler = _part(learning, "sampler", "RandomSampler")
    _expect(sampler, "neg_pos_ub", -1)
    _expect(sampler, "add_gt_as_proposals", add_objects)
    _expect(learning, "pos_weight", -1)  # positives count no more than background
    learning.ignore("debug")
    config = SamplerConfig(count=sampler.get("num", int), positive_fraction=_number(sampler, "pos_fraction"))
    sampler.finish()
    return config


def _proposals(arguments: Arguments) -> ProposalConfig:
    config = ProposalConfig(
        per_level=arguments.get("nms_pre", int),
        count=arguments.get("max_per_img", int),
        nms_iou=_nms_iou(arguments),
        min_size=_number(arguments, "min_bbox_size"),
    )
    arguments.finish()
    return config


def _nms_iou(arguments: Arguments) -> float:
    nms = _part(arguments, "nms", "nms")
    iou = _number(nms, "iou_threshold")
    nms.finish()
    return iou
