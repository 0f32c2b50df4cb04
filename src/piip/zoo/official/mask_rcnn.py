"""The official constructor arguments of Mask R-CNN, as our configuration.

The official dict says some things several times (channels, classes) and some that its code has no choice about. All of
it is read, and what cannot be meant or run is refused.
"""

from collections.abc import Mapping
from typing import Any

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
    backbone = detection.backbone_part(arguments, state_dict, convnexts)
    training, test = arguments.part("train_cfg"), arguments.part("test_cfg")
    with arguments.blamed():
        fpn = _fpn(arguments.part("neck", "FPN"), backbone)
        rpn = _rpn(arguments.part("rpn_head", "RPNHead"), training, test, fpn, backbone)
        roi = arguments.part("roi_head", "StandardRoIHead")
        training_heads, test_heads = training.part("rcnn"), test.part("rcnn")
        box_head, num_classes = _box_head(roi, training_heads, test_heads, fpn, backbone)
        mask_head = _mask_head(roi, training_heads, test_heads, fpn, backbone, num_classes)
        for read in (training_heads, test_heads, training, test, roi, arguments):
            read.finish()
        return MaskRCNNConfig(
            backbone=backbone, num_classes=num_classes, fpn=fpn, rpn=rpn, box_head=box_head, mask_head=mask_head
        )


def _fpn(neck: Arguments, backbone: BackboneConfig) -> FPNConfig:
    neck.expect("in_channels", list(backbone.channels))
    fpn = FPNConfig(channels=neck.get("out_channels", int), num_levels=neck.get("num_outs", int))
    neck.finish()
    return fpn


def _rpn(head: Arguments, training: Arguments, test: Arguments, fpn: FPNConfig, backbone: BackboneConfig) -> RPNConfig:
    head.expect("in_channels", fpn.channels)
    head.expect("feat_channels", fpn.channels)
    generator = head.part("anchor_generator", "AnchorGenerator")
    generator.expect("strides", list(fpn.strides(backbone.strides)))
    anchors = AnchorConfig(scales=generator.get("scales", (list, tuple)), ratios=generator.get("ratios", (list, tuple)))
    generator.finish()
    box_coder = _box_coder(head)
    _losses(head, use_sigmoid=True)
    head.finish()
    learning = training.part("rpn")
    learning.expect("allowed_border", -1)
    matcher, sampler = _matcher(learning), _sampler(learning, add_objects=False)
    learning.finish()
    return RPNConfig(
        anchors=anchors,
        box_coder=box_coder,
        matcher=matcher,
        sampler=sampler,
        training_proposals=_proposals(training.part("rpn_proposal")),
        proposals=_proposals(test.part("rpn")),
    )


def _box_head(
    roi: Arguments, training: Arguments, test: Arguments, fpn: FPNConfig, backbone: BackboneConfig
) -> tuple[BoxHeadConfig, int]:
    head = roi.part("bbox_head", "Shared2FCBBoxHead")
    head.expect("in_channels", fpn.channels)
    head.expect("reg_class_agnostic", False)
    num_classes = head.get("num_classes", int)
    pool_size = _pool_size(roi.part("bbox_roi_extractor", "SingleRoIExtractor"), fpn, backbone)
    head.expect("roi_feat_size", pool_size)
    config = BoxHeadConfig(
        hidden_dim=head.get("fc_out_channels", int),
        pool_size=pool_size,
        box_coder=_box_coder(head),
        matcher=_matcher(training),
        sampler=_sampler(training, add_objects=True),
        score_threshold=test.number("score_thr"),
        nms_iou=_nms_iou(test),
        max_detections=test.get("max_per_img", int),
    )
    _losses(head, use_sigmoid=False)
    head.finish()
    return config, num_classes


def _mask_head(
    roi: Arguments, training: Arguments, test: Arguments, fpn: FPNConfig, backbone: BackboneConfig, num_classes: int
) -> MaskHeadConfig:
    head = roi.part("mask_head", "FCNMaskHead")
    head.expect("in_channels", fpn.channels)
    head.expect("num_classes", num_classes)
    config = MaskHeadConfig(
        channels=head.get("conv_out_channels", int),
        num_convs=head.get("num_convs", int),
        pool_size=_pool_size(roi.part("mask_roi_extractor", "SingleRoIExtractor"), fpn, backbone),
    )
    loss = head.part("loss_mask", "CrossEntropyLoss")
    loss.expect("use_mask", True)
    loss.expect("loss_weight", 1.0)
    loss.finish()
    head.finish()
    training.expect("mask_size", config.mask_size)
    test.expect("mask_thr_binary", 0.5)
    return config


def _pool_size(extractor: Arguments, fpn: FPNConfig, backbone: BackboneConfig) -> int:
    extractor.expect("out_channels", fpn.channels)
    extractor.expect("featmap_strides", list(backbone.strides))
    layer = extractor.part("roi_layer", "RoIAlign")
    layer.expect("sampling_ratio", 0)
    size: int = layer.get("output_size", int)
    layer.finish()
    extractor.finish()
    return size


def _box_coder(head: Arguments) -> BoxCoder:
    coder = head.part("bbox_coder", "DeltaXYWHBBoxCoder")
    coder.expect("target_means", [0, 0, 0, 0])
    stds = coder.get("target_stds", (list, tuple))
    coder.finish()
    return BoxCoder(stds=stds)


def _losses(head: Arguments, *, use_sigmoid: bool) -> None:
    cross_entropy = head.part("loss_cls", "CrossEntropyLoss")
    cross_entropy.expect("use_sigmoid", use_sigmoid)
    for loss in (cross_entropy, head.part("loss_bbox", "L1Loss")):
        loss.expect("loss_weight", 1.0)
        loss.finish()


def _matcher(learning: Arguments) -> MatcherConfig:
    assigner = learning.part("assigner", "MaxIoUAssigner")
    assigner.expect("ignore_iof_thr", -1)
    low_quality_iou = assigner.number("min_pos_iou")
    matcher = MatcherConfig(
        positive_iou=assigner.number("pos_iou_thr"),
        negative_iou=assigner.number("neg_iou_thr"),
        low_quality_iou=low_quality_iou if assigner.get("match_low_quality", bool) else None,
    )
    assigner.finish()
    return matcher


def _sampler(learning: Arguments, *, add_objects: bool) -> SamplerConfig:
    sampler = learning.part("sampler", "RandomSampler")
    sampler.expect("neg_pos_ub", -1)
    sampler.expect("add_gt_as_proposals", add_objects)
    learning.expect("pos_weight", -1)  # positives count no more than background
    learning.ignore("debug")
    config = SamplerConfig(count=sampler.get("num", int), positive_fraction=sampler.number("pos_fraction"))
    sampler.finish()
    return config


def _proposals(arguments: Arguments) -> ProposalConfig:
    config = ProposalConfig(
        per_level=arguments.get("nms_pre", int),
        count=arguments.get("max_per_img", int),
        nms_iou=_nms_iou(arguments),
        min_size=arguments.number("min_bbox_size"),
    )
    arguments.finish()
    return config


def _nms_iou(arguments: Arguments) -> float:
    nms = arguments.part("nms", "nms")
    iou = nms.number("iou_threshold")
    nms.finish()
    return iou
