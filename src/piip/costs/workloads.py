"""What is run of a model to count it: its parts, whatever is in the images."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torchvision.ops import roi_align

from piip.costs.dispatch import Modules
from piip.pyramid import Backbone, BackboneConfig, PyramidConfig
from piip.tasks.classification.heads import MergedHeadConfig
from piip.tasks.classification.model import ClassificationConfig, ClassificationModel
from piip.tasks.detection.detector import DetectorConfig
from piip.tasks.detection.dino.model import DINO, DINOConfig
from piip.tasks.detection.mask_rcnn.model import MaskRCNN, MaskRCNNConfig
from piip.tasks.segmentation.upernet.model import UperNet, UperNetConfig

AnyModel = ClassificationModel | MaskRCNN | DINO | UperNet | Backbone
"""What can be counted."""

AnyModelConfig = ClassificationConfig | MaskRCNNConfig | DINOConfig | UperNetConfig | BackboneConfig
"""Their configurations."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """How the models of one task are counted.

    Attributes:
        official: what the official release's scripts are given of such a model.
        pyramid: the pyramid of such a model.
        parts: of which modules each part consists; together they are the whole model.
        run: runs a model on images (B, 3, H, W), in training or not as the model itself is, and returns what it is
            trained by. Nothing depends on what is in the images.
        least_trained: how many images at once it can be trained on at least.
    """

    official: Callable[[Any], ClassificationConfig | BackboneConfig]
    pyramid: Callable[[Any], PyramidConfig]
    parts: Callable[[Any], dict[str, Modules]]
    run: Callable[[Any, Tensor], tuple[Tensor, ...]]
    least_trained: int = 1


def find_workload(config: AnyModelConfig) -> Workload:
    """How a model of this configuration is counted.

    Raises:
        TypeError: for a model of no task, which cannot be counted.
    """
    if type(config) not in _WORKLOADS:
        known = ", ".join(kind.__name__ for kind in _WORKLOADS)
        raise TypeError(f"model: {type(config).__name__} cannot be counted; there are {known}, and their models")
    return _WORKLOADS[type(config)]


def _pyramid_parts(pyramid: PyramidConfig, name: str) -> dict[str, Modules]:
    parts: dict[str, Modules] = {
        f"branch {number + 1}": (f"{name}.branches.{number}",) for number in range(len(pyramid.branches))
    }
    return parts | {"interactions": (f"{name}.interactions",)}


def _classifier_parts(config: ClassificationConfig) -> dict[str, Modules]:
    parts = _pyramid_parts(config.pyramid, "pyramid")
    if not isinstance(config.head, MergedHeadConfig):
        return parts | {"head": ("head",)}
    parts["merging"] = ("head.merging",)
    return parts | ({"head": ("head.norm", "head.linear")} if config.head.num_classes else {})


def _backbone_parts(config: BackboneConfig, prefix: str = "") -> dict[str, Modules]:
    parts = _pyramid_parts(config.pyramid, f"{prefix}pyramid")
    return parts | {"merging": (f"{prefix}merging",), "levels": (f"{prefix}levels",)}


def _detector_parts(**modules: str) -> Callable[[DetectorConfig], dict[str, Modules]]:
    """Parts of one module each, by their names, after those of the backbone."""
    own: dict[str, Modules] = {name.replace("_", " "): (module,) for name, module in modules.items()}
    return lambda config: _backbone_parts(config.backbone, "backbone.") | own


def _upernet_parts(config: UperNetConfig) -> dict[str, Modules]:
    parts = _backbone_parts(config.backbone, "backbone.") | {"decode head": ("decode_head",)}
    return parts if config.auxiliary_head is None else parts | {"auxiliary head": ("auxiliary_head",)}


def _run_classifier(model: ClassificationModel, images: Tensor) -> tuple[Tensor, ...]:
    return tuple(model(images).values())


def _run_backbone(model: Backbone, images: Tensor) -> tuple[Tensor, ...]:
    return tuple(model(images))


def _run_mask_rcnn(model: MaskRCNN, images: Tensor) -> tuple[Tensor, ...]:
    """Everything but the choice of boxes, with as many of them as there can be."""
    config, features = model.config, model.fpn(model.backbone(images))
    maps = model.rpn(features)
    if model.training:
        sampler = config.box_head.sampler
        boxes, masks = sampler.count, int(sampler.count * sampler.positive_fraction)
    else:
        boxes, masks = config.rpn.proposals.count, config.box_head.max_detections
    found = model.box_head(_pool(features[0], boxes, config.box_head.pool_size))
    logits = model.mask_head(_pool(features[0], masks, config.mask_head.pool_size))
    return *maps.objectness, *maps.deltas, *found, logits


def _pool(features: Tensor, count: int, size: int) -> Tensor:
    """The features of so many boxes of each image."""
    regions = features.new_zeros(len(features) * count, 5)
    return roi_align(features, regions, size, sampling_ratio=1)


def _run_dino(model: DINO, images: Tensor) -> tuple[Tensor, ...]:
    """Everything but what comes before and after: queries for denoising, and the choice of detections."""
    height, width = images.shape[-2:]
    memory, geometry = model.encode(images, images.new_tensor([width, height]).expand(len(images), 2))
    selected = model.selection(memory, geometry, model.config.num_queries)
    content = model.decoder.queries.weight[: selected.boxes.shape[1]].expand(len(images), -1, -1)
    hidden, starts = model.decoder(content, selected.boxes.detach(), memory, geometry)
    if model.training:
        return tuple(chain(selected, *model.decoder.predict_all(hidden, starts)))
    return tuple(model.decoder.predict(len(hidden) - 1, hidden[-1], starts[-1]))


def _run_upernet(model: UperNet, images: Tensor) -> tuple[Tensor, ...]:
    """One crop, as large as the image; in training the auxiliary head too."""
    if not model.training or model.auxiliary_head is None:
        return (model.logits(images),)
    features = model.backbone(images)
    return model.decode_head(features), model.auxiliary_head(features[model.auxiliary_head.config.level])


_WORKLOADS: dict[type, Workload] = {
    ClassificationConfig: Workload(
        official=lambda config: config,
        pyramid=lambda config: config.pyramid,
        parts=_classifier_parts,
        run=_run_classifier,
    ),
    MaskRCNNConfig: Workload(
        official=lambda config: config.backbone,
        pyramid=lambda config: config.backbone.pyramid,
        parts=_detector_parts(FPN="fpn", RPN="rpn", box_head="box_head", mask_head="mask_head"),
        run=_run_mask_rcnn,
    ),
    DINOConfig: Workload(
        official=lambda config: config.backbone,
        pyramid=lambda config: config.backbone.pyramid,
        parts=_detector_parts(
            neck="neck", encoder="encoder", query_selection="selection", decoder="decoder", denoising="denoising"
        ),
        run=_run_dino,
    ),
    UperNetConfig: Workload(
        official=lambda config: config.backbone,
        pyramid=lambda config: config.backbone.pyramid,
        parts=_upernet_parts,
        run=_run_upernet,
        least_trained=2,  # its batch norms cannot learn from a map of one cell
    ),
    BackboneConfig: Workload(
        official=lambda config: config,
        pyramid=lambda config: config.pyramid,
        parts=_backbone_parts,
        run=_run_backbone,
    ),
}


class Runner(nn.Module):
    """A model and what is run of it."""

    def __init__(self, config: AnyModelConfig) -> None:
        super().__init__()
        self.workload = find_workload(config)
        self.model = config.build()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the model on images (B, 3, H, W)."""
        return self.workload.run(self.model, images)


def image_sizes(config: AnyModelConfig) -> tuple[int, ...]:
    """Sides of the square images that the branches of a model are made for, from branch 1 on."""
    return tuple(branch.image_size for branch in find_workload(config).pyramid(config).branches)


def image_shape(config: AnyModelConfig, image_size: int | tuple[int, int] | None) -> tuple[int, int, int]:
    """Channels, height and width of an image for a model.

    Args:
        config: of the model.
        image_size: side, or height and width; None for that of the configuration.

    Raises:
        ValueError: for sides that are not positive.
        TypeError: for a model of no task.
    """
    pyramid = find_workload(config).pyramid(config)
    size = pyramid.image_size if image_size is None else image_size
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"image_size: expected a positive number of pixels, got {size}")
    return pyramid.branches[0].in_channels, height, width
