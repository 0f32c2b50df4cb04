"""Our Mask R-CNN against what the official code computed: inference, losses, gradients."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from parity import DATA, assert_matches, load_case, reference_input, reference_state_dict
from piip.tasks.detection.mask_rcnn import sampling
from piip.tasks.detection.mask_rcnn.model import MaskRCNN
from piip.tasks.detection.mask_rcnn.sampling import SamplerConfig, Samples
from piip.tasks.detection.masks import encode_masks
from piip.tasks.detection.structures import ImageBatch, Target
from piip.zoo import official

INFERENCE = sorted(path.stem for path in DATA.glob("maskrcnn_infer_*.json"))
TRAINING = sorted(path.stem for path in DATA.glob("maskrcnn_train_*.json"))

BACKBONE, FPN, BOXES, SCORES = 1e-5, 3e-5, 2e-3, 1e-5


def official_detector(case: dict[str, Any]) -> MaskRCNN:
    """The model of a case, holding the weights of the case."""
    model = official.build_model(case["model"], task="detection")
    weights = reference_state_dict(case["state_dict"], case["weight_seed"])
    for key, factor in case["weight_scaling"].items():
        weights[key] *= factor
    for key, index, shift in case.get("weight_shift", ()):
        weights[key][index] += shift
    model.load_state_dict(official.convert_state_dict(weights, model), strict=True)
    return model


def image_batch(case: dict[str, Any]) -> ImageBatch:
    metas = case["img_metas"]
    sizes = tuple(tuple(meta["img_shape"][:2]) for meta in metas)
    return ImageBatch(
        pixels=reference_input(tuple(case["input_shape"]), case["input_seed"]),
        sizes=sizes,
        original_sizes=tuple(tuple(meta["ori_shape"][:2]) for meta in metas) if case.get("rescale", True) else sizes,
        padded_sizes=tuple(tuple(meta["pad_shape"][:2]) for meta in metas),
    )


def whole(arrays: dict[str, np.ndarray], name: str) -> Tensor:
    return torch.from_numpy(arrays[name])


@torch.inference_mode()
@pytest.mark.parametrize("name", INFERENCE)
def test_inference(name: str) -> None:
    case, arrays = load_case(name)
    model, images = official_detector(case).eval(), image_batch(case)

    features = model.backbone(images.pixels)
    pyramid = model.fpn(features)
    maps = model.rpn(pyramid)
    for prefix, tensors in {"backbone": features, "fpn": pyramid, "rpn_cls": maps.objectness, "rpn_reg": maps.deltas}.items():
        for level, tensor in enumerate(tensors):
            print(prefix, level, err(tensor, case, arrays, f"{prefix}.{level}"))
