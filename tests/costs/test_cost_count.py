"""The whole cost: every operation that runs, by part."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from piip import ClassificationConfig, MergedHeadConfig, PyramidConfig, SeparateHeadsConfig, cost
from piip.costs import OFFICIAL_HEAD, estimate_memory
from piip.pyramid import BackboneConfig
from tiny_detector import tiny_detector
from tiny_dino import tiny_dino
from tiny_models import tiny_pyramid, tiny_vit
from tiny_segmenter import tiny_segmenter

BACKBONE = BackboneConfig(pyramid=tiny_pyramid())


def classifier(**settings: Any) -> ClassificationConfig:
    settings = {"pyramid": tiny_pyramid(), "head": SeparateHeadsConfig(num_classes=5)} | settings
    return ClassificationConfig(**settings)


MODELS = {
    "separate heads": classifier(),
    "merged": classifier(head=MergedHeadConfig(num_classes=5)),
    "features": classifier(head=MergedHeadConfig(num_classes=0)),
    "regular attention": classifier(pyramid=tiny_pyramid(attention="regular")),
    "no interactions": classifier(pyramid=tiny_pyramid(edges=())),
    "backbone": BACKBONE,
    "Mask R-CNN": tiny_detector(),
    "DINO": tiny_dino(),
    "UperNet": tiny_segmenter(),
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_parts_are_the_whole(kind: str) -> None:
    counted = cost(MODELS[kind])
    parts = [part for part in counted.parts if part.name != OFFICIAL_HEAD]
    assert sum(part.flops or 0 for part in parts) == counted.flops
    assert sum(part.params or 0 for part in parts) == counted.params
    assert sum(part.official_flops or 0 for part in counted.parts) == counted.official_flops
    assert sum(part.official_params or 0 for part in counted.parts) == counted.official_params
    assert counted.params == sum(parameter.numel() for parameter in MODELS[kind].build().parameters())


def test_a_vision_transformer_by_hand() -> None:
    branch = tiny_vit(class_token=True)  # 2 blocks, 32 wide, 4 patches of 16 x 16 pixels
    config = classifier(pyramid=PyramidConfig(branches=(branch,)))
    tokens, dim = 5, 32
    block = tokens * dim * (3 * dim + dim + 8 * dim) + 2 * tokens**2 * dim
    counted = cost(config)
    assert {part.name: part.flops for part in counted.parts} == {
        "branch 1": 4 * 16 * 16 * 3 * dim + 2 * block,
        "interactions": 0,
        "head": dim * 5,
    }
    assert counted.image_size == (32, 32)


def test_an_injector_by_hand() -> None:
    """Branch 1, 64 wide with 4 cells, reads branch 2, 32 wide with 9 cells."""
    config = classifier(pyramid=tiny_pyramid(edges=((1, 2),)))
    project, offsets, values, output = 9 * 32 * 64, 4 * 64 * (4 * 2 * 3), 9 * 64 * 32, 4 * 32 * 64
    sampling = 4 * (4 * 2) * 4 * 8  # queries, samples, cells, numbers
    feed_forward = 4 * (64 * 16 + 9 * 16 + 16 * 64)
    interactions = next(part for part in cost(config).parts if part.name == "interactions")
    assert interactions.flops == 2 * (project + offsets + values + output + sampling + feed_forward)  # stages


def test_a_real_run_counts_the_same() -> None:
    """The attention of the CPU and the kernel of deformable attention are other operators than on the meta device."""
    config = classifier(pyramid=tiny_pyramid(attention="regular"))
    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: (
                4 * q[0] * q[1] * q[2] * k[2] * q[3]
            )
        },
    )
    with torch.no_grad(), counter:
        config.build().eval().requires_grad_(False)(torch.zeros(1, 3, 48, 48))
    assert counter.get_total_flops() == 2 * cost(config).flops


def test_size_and_model() -> None:
    model = BACKBONE.build()
    assert cost(model) == cost(BACKBONE) == cost(BACKBONE, 48) == cost(BACKBONE, (48, 48))
    wide = cost(BACKBONE, (48, 96))
    assert wide.image_size == (48, 96)
    assert wide.flops > 1.9 * cost(BACKBONE).flops
    assert wide.official_flops > 1.9 * cost(BACKBONE).official_flops
    assert wide.params == cost(BACKBONE).params
    assert cost(BACKBONE, np.int64(48)) == cost(BACKBONE, [48, np.int32(48)]) == cost(BACKBONE)


@pytest.mark.parametrize("size", [0, -5, (0, 48), (1, 2, 3), (48,), (), "224", "48", 48.0, (48, "48"), {48: 48}])
def test_image_sizes_that_are_none(size: Any) -> None:
    message = f"image_size: expected a positive number of pixels, or height and width; got {re.escape(repr(size))}"
    for count in (cost, estimate_memory):
        with pytest.raises(ValueError, match=message):
            count(BACKBONE, image_size=size)


class Wrapped(nn.Module):
    """As DistributedDataParallel has a model."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (nn.Linear(3, 3), "Linear"),
        (Wrapped(BACKBONE.build()), "Wrapped"),
        (BACKBONE.build().pyramid, "Pyramid"),
        (BACKBONE.pyramid, "PyramidConfig"),
        ("piip_demo_shapes_96-48-32", "str"),
        (None, "NoneType"),
    ],
)
def test_what_cannot_be_counted(model: Any, name: str) -> None:
    for count in (cost, estimate_memory):
        with pytest.raises(TypeError, match=f"model: {name} cannot be counted; there are .*; of what wraps a model"):
            count(model)


def test_what_the_official_count_of_detectors_leaves_out() -> None:
    parts = {part.name: part for part in cost(tiny_detector()).parts}
    for name in ("levels", "FPN", "RPN", "box head", "mask head"):
        assert parts[name].official_flops is None
        assert parts[name].flops is not None
    assert parts[OFFICIAL_HEAD].flops is None


def test_heads_count_as_many_boxes_as_there_can_be() -> None:
    config = tiny_detector()
    fewer = replace(config, rpn=replace(config.rpn, proposals=replace(config.rpn.proposals, count=10)))
    fewer = replace(fewer, box_head=replace(fewer.box_head, max_detections=5))
    parts, less = ({part.name: part.flops or 0 for part in cost(own).parts} for own in (config, fewer))
    assert parts["box head"] * 10 == less["box head"] * config.rpn.proposals.count
    assert parts["mask head"] * 5 == less["mask head"] * config.box_head.max_detections
    assert parts["FPN"] == less["FPN"]
