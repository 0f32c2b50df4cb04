"""Mask R-CNN (arXiv 1703.06870) on a backbone that gives a feature pyramid."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from piip.config import check_fields
from piip.hub import PretrainedModel
from piip.pyramid.backbone import BackboneConfig
from piip.tasks.detection.boxes import larger_than, resize_factors
from piip.tasks.detection.mask_rcnn.box_head import BoxHeadConfig
from piip.tasks.detection.mask_rcnn.fpn import FPNConfig
from piip.tasks.detection.mask_rcnn.mask_head import MaskHeadConfig, mask_targets
from piip.tasks.detection.mask_rcnn.roi_align import batch_boxes, pool_regions
from piip.tasks.detection.mask_rcnn.rpn import RPNConfig
from piip.tasks.detection.structures import Detections, ImageBatch, Target
