"""The cost of a model: operations and parameters, part by part, as they are and as the official release counts."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from piip.costs.amounts import count_parameters
from piip.costs.dispatch import Modules, PartCounter, choose_kernel
from piip.costs.official import official_cost
from piip.costs.workloads import Runner, config_of, find_workload, image_shape
from piip.tasks.models import AnyModel, AnyModelConfig

OFFICIAL_HEAD = "official head"
"""The part of a detector that only the official count has: the classifier that it is rebuilt as has a head."""


@dataclass(frozen=True, kw_only=True)
class PartCost:
    """The cost of one part of a model for one image; None for what a count leaves out.

    Attributes:
        name: `branch 1`, ..., `interactions`, and what comes after them.
        official_flops: multiply-adds as the official release counts them.
        official_params: parameters as the official release counts them.
        flops: multiply-adds that are run.
        params: parameters that there are.
    """

    name: str
    official_flops: int | None
    official_params: int | None
    flops: int | None
    params: int | None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of a model that is not trained, for one image.

    A multiply-add counts once, as in the paper.

    Attributes:
        image_size: height and width of the image.
        official_flops: multiply-adds as the official release counts them for its tables. Of a detector or
            segmentor, that leaves out the convolutions that merge the branches, the feature pyramid and the heads
            (`piip.costs.official`).
        official_params: parameters as the official release counts them.
        flops: multiply-adds of everything that is run: matrix products, attention, convolutions, and the sampling of
            deformable attention. Norms, activations, sums and resizing are not counted, nor is the sampling of
            features for boxes.
        params: parameters that there are.
        parts: the same, part by part.
    """

    image_size: tuple[int, int]
    official_flops: int
    official_params: int
    flops: int
    params: int
    parts: tuple[PartCost, ...]


def cost(model: AnyModel | AnyModelConfig, image_size: int | tuple[int, int] | None = None) -> Cost:
    """Count the operations and parameters of a model.

    Nothing is computed: the model is built again from its configuration, on the meta device. Of a Mask R-CNN, the box
    head is counted for as many proposals as there can be, and the mask head for as many objects; an UperNet for one
    crop, which is the image.

    Args:
        model: a model, or its configuration.
        image_size: side of the image, or height and width; None for that of the configuration.

    Raises:
        TypeError: for something else than a model.
        ValueError: for an image size that is none, or an image that is too small.
    """
    config = config_of(model)
    workload = find_workload(config)
    shape = image_shape(config, image_size)
    size = shape[1:]
    modules = workload.parts(config)
    with torch.device("meta"):
        runner = Runner(config).eval().requires_grad_(False)
    flops, by_part = _count_flops(runner, shape, modules)
    params = {name: count_parameters(*map(runner.model.get_submodule, names)) for name, names in modules.items()}
    official = official_cost(workload.official(config), size)
    if "head" in official and "head" not in modules:
        official[OFFICIAL_HEAD] = official.pop("head")
    return Cost(
        image_size=size,
        official_flops=sum(amount.flops for amount in official.values()),
        official_params=sum(amount.params for amount in official.values()),
        flops=flops,
        params=count_parameters(runner.model),
        parts=tuple(
            PartCost(
                name=name,
                official_flops=official[name].flops if name in official else None,
                official_params=official[name].params if name in official else None,
                flops=by_part.get(name),
                params=params.get(name),
            )
            for name in dict.fromkeys([*modules, *official])
        ),
    )


def _count_flops(
    runner: Runner, shape: tuple[int, int, int], parts: Mapping[str, Modules]
) -> tuple[int, dict[str, int]]:
    """The multiply-adds of all for an image of this shape, and of each part."""
    choose_kernel(runner, "gather")
    named = {part: tuple(f"model.{module}" for module in modules) for part, modules in parts.items()}
    with torch.device("meta"), PartCounter(named) as counter:
        runner(torch.zeros(1, *shape))
    return counter.total, counter.by_part
