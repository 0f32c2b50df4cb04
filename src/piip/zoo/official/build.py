"""Our model for an official constructor dict."""

from collections.abc import Mapping
from typing import Any, Literal, overload

from piip.config import ConfigError, nearest
from piip.pyramid import Backbone, BackboneConfig
from piip.tasks.classification.model import ClassificationConfig, ClassificationModel
from piip.tasks.detection.dino import DINO, DINOConfig
from piip.tasks.detection.mask_rcnn import MaskRCNN, MaskRCNNConfig
from piip.tasks.models import AnyModel, AnyModelConfig
from piip.tasks.segmentation.upernet import UperNet, UperNetConfig
from piip.zoo.official import classification, detection, dino, mask_rcnn, segmentation, upernet
from piip.zoo.official.arguments import Arguments
from piip.zoo.official.branches import Architectures

Kwargs = Mapping[str, Any]


@overload
def build_model(config: Kwargs, task: Literal["classification"] = "classification") -> ClassificationModel: ...


@overload
def build_model(
    config: Kwargs,
    task: Literal["detection"],
    state_dict: Kwargs | None = None,
    *,
    convnexts: Architectures | None = None,
) -> Backbone | MaskRCNN | DINO: ...


@overload
def build_model(config: Kwargs, task: Literal["segmentation"]) -> Backbone | UperNet: ...


def build_model(
    config: Kwargs,
    task: str = "classification",
    state_dict: Kwargs | None = None,
    *,
    convnexts: Architectures | None = None,
) -> AnyModel:
    """Build our model from the constructor dict of an official one, as the official configurations write it.

    Args:
        config: `{"type": "PIIPThreeBranch", ...}`, or of type `PIIPTwoBranch`, `PIIPFourBranch`, `vit_models` or
            `InternViT6B`, with the arguments of the official class; for detection also `ConvNextHFWrapper`, and the
            whole `MaskRCNN` or `DINO` with one of these as `backbone`; for segmentation the whole `EncoderDecoder` with
            an `UPerHead`, but no `PIIPFourBranch`.
        task: which of the official code bases the class is from; each has its own flavour of it.
        state_dict: the official checkpoint that the model is built for, which decides what the arguments leave open:
            the official detection code builds branch 4 of four from the arguments of branch 3, but there may be
            checkpoints whose branch 4 has the width of its own.
        convnexts: for detection, the `depths` and `hidden_sizes` of ConvNeXts that are not of a usual size, by what
            `pretrained` calls them.

    Raises:
        ConfigError: for a type, argument or value that is not known or cannot be run, naming it.
    """
    return _model_config(config, task, state_dict, convnexts).build()


@overload
def model_config(config: Kwargs, task: Literal["classification"] = "classification") -> ClassificationConfig: ...


@overload
def model_config(
    config: Kwargs,
    task: Literal["detection"],
    state_dict: Kwargs | None = None,
    *,
    convnexts: Architectures | None = None,
) -> BackboneConfig | MaskRCNNConfig | DINOConfig: ...


@overload
def model_config(config: Kwargs, task: Literal["segmentation"]) -> BackboneConfig | UperNetConfig: ...


def model_config(
    config: Kwargs,
    task: str = "classification",
    state_dict: Kwargs | None = None,
    *,
    convnexts: Architectures | None = None,
) -> AnyModelConfig:
    """Translate an official constructor dict into our configuration; see `build_model`."""
    return _model_config(config, task, state_dict, convnexts)


def _model_config(
    config: Kwargs, task: str, state_dict: Kwargs | None, convnexts: Architectures | None
) -> AnyModelConfig:
    classes = {
        "classification": classification.CLASSES,
        "detection": (*detection.CLASSES, *mask_rcnn.CLASSES, *dino.CLASSES),
        "segmentation": (*segmentation.CLASSES, *upernet.CLASSES),
    }
    if task not in classes:
        raise ConfigError(f"task: {task!r} cannot be built; there are {', '.join(classes)}")
    arguments = Arguments(config, "config")
    name = arguments.get("type", str)
    if name not in classes[task]:
        raise ConfigError(f"config.type: {name!r} is not an official model{nearest(name, list(classes[task]))}")
    arguments.where = name
    if task == "classification":
        return classification.classification_config(arguments)
    if task == "segmentation":
        read_segmentor = upernet.upernet_config if name in upernet.CLASSES else segmentation.backbone_config
        return read_segmentor(arguments)
    if name in mask_rcnn.CLASSES:
        return mask_rcnn.mask_rcnn_config(arguments, state_dict, convnexts or {})
    if name in dino.CLASSES:
        return dino.dino_config(arguments, state_dict, convnexts or {})
    return detection.backbone_config(arguments, state_dict, convnexts or {})
