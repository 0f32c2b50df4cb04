"""Our Mask R-CNN for the constructor dict of an official one, and the official names of its tensors.

The official dict says some things several times (channels, classes) and some that its code has no choice about. All of
it is read, and what cannot be meant or run is refused.
"""

import re
from collections.abc import Mapping
from typing import Any

from piip.config import ConfigError
from piip.pyramid.backbone import BackboneConfig
from piip.tasks.detection.mask_rcnn.anchors import AnchorConfig
from piip.tasks.detection.mask_rcnn.box_coder import BoxCoder
from piip.tasks.detection.mask_rcnn.box_head import BoxHeadConfig
from piip.tasks.detection.mask_rcnn.fpn import FPNConfig
from piip.tasks.detection.mask_rcnn.mask_head import MaskHeadConfig
from piip.tasks.detection.mask_rcnn.matching import MatcherConfig
from piip.tasks.detection.mask_rcnn.model import MaskRCNNConfig
from piip.tasks.detection.mask_rcnn.rpn import ProposalConfig, RPNConfig
from piip.tasks.detection.mask_rcnn.sampling import SamplerConfig
from piip.zoo.official.arguments import Arguments

_NAMES = (
    (r"fpn\.lateral\.(\d+)\.", r"neck.lateral_convs.\1.conv."),
    (r"fpn\.output\.(\d+)\.", r"neck.fpn_convs.\1.conv."),
    (r"rpn\.conv\.", "rpn_head.rpn_conv."),
    (r"rpn\.objectness\.", "rpn_head.rpn_cls."),
    (r"rpn\.deltas\.", "rpn_head.rpn_reg."),
    (r"box_head\.fc1\.", "roi_head.bbox_head.shared_fcs.0."),
    (r"box_head\.fc2\.", "roi_head.bbox_head.shared_fcs.1."),
    (r"box_head\.classifier\.", "roi_head.bbox_head.fc_cls."),
    (r"box_head\.regressor\.", "roi_head.bbox_head.fc_reg."),
    (r"mask_head\.convs\.(\d+)\.", r"roi_head.mask_head.convs.\1.conv."),
    (r"mask_head\.upsample\.", "roi_head.mask_head.upsample."),
    (r"mask_head\.logits\.", "roi_head.mask_head.conv_logits."),
)


def official_head_name(name: str) -> str:
    """The official name of one of our tensors, of any part of a Mask R-CNN but the backbone.

    Raises:
        KeyError: for a name that has no official counterpart.
    """
    for ours, official in _NAMES:
        if match := re.match(ours, name):
            return match.expand(official) + name[match.end() :]
    raise KeyError(name)


def mask_rcnn_config(arguments: Arguments, backbone: BackboneConfig) -> MaskRCNNConfig:
    """Translate the arguments of the official `MaskRCNN`, but for its backbone.

    Args:
        arguments: of the official class; `type` and `backbone` have been read.
        backbone: our backbone, of the same dict.

    Raises:
        ConfigError: for a part, argument or value that is not known or cannot be run, naming it.
    """
    training, test = _part(arguments, "train_cfg"), _part(arguments, "test_cfg")
    fpn = _fpn(_part(arguments, "neck", "FPN"), backbone)
    rpn = _rpn(_part(arguments, "rpn_head", "RPNHead"), training, test, fpn, backbone)
    roi = _part(arguments, "roi_head", "StandardRoIHead")
    training_heads, test_heads = _part(training, "rcnn"), _part(test, "rcnn")
    box_head, num_classes = _box_head(roi, training_heads, test_heads, fpn, backbone)
    mask_head = _mask_head(roi, training_heads, test_heads, fpn, backbone, num_classes)
    for read in (training_heads, test_heads, training, test, roi, arguments):
        read.finish()
    try:
        return MaskRCNNConfig(
            backbone=backbone, num_classes=num_classes, fpn=fpn, rpn=rpn, box_head=box_head, mask_head=mask_head
        )
    except ValueError as error:
        raise ConfigError(f"{arguments.where}: {error}") from error


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
    _losses(head, "loss_cls", "loss_bbox", use_sigmoid=True)
    head.finish()
    learning = _part(training, "rpn")
    _expect(learning, "allowed_border", -1)
    matcher, sampler = _matcher(learning), _sampler(learning, add_objects=False)
    _learning_rest(learning)
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
    _losses(head, "loss_cls", "loss_bbox", use_sigmoid=False)
    head.finish()
    _expect(training, "pos_weight", -1)
    _expect(training, "debug", False)
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


def _losses(head: Arguments, classification: str, regression: str, *, use_sigmoid: bool) -> None:
    cross_entropy = _part(head, classification, "CrossEntropyLoss")
    _expect(cross_entropy, "use_sigmoid", use_sigmoid)
    for loss in (cross_entropy, _part(head, regression, "L1Loss")):
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


def _learning_rest(learning: Arguments) -> None:
    _expect(learning, "pos_weight", -1)
    _expect(learning, "debug", False)
    learning.finish()
