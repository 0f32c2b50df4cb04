"""A model by its name or folder, with its weights."""

from pathlib import Path

import torch

from piip.config import ConfigError, nearest, read_json
from piip.hub import CONFIG_NAME, WeightsError, load_weights
from piip.tasks.classification.model import ClassificationModel
from piip.tasks.detection.dino.model import DINO
from piip.tasks.detection.mask_rcnn.model import MaskRCNN
from piip.tasks.segmentation.upernet.model import UperNet
from piip.zoo.cards import AnyConfig, UnknownModelError, find_card
from piip.zoo.files import read_tensors
from piip.zoo.official import convert_state_dict

AnyModel = ClassificationModel | MaskRCNN | DINO | UperNet
"""The models of all tasks."""

_MODELS: tuple[type[AnyModel], ...] = (ClassificationModel, MaskRCNN, DINO, UperNet)
_CLASSES = {model.config_class.__name__: model for model in _MODELS}


def find_config(name: str | Path) -> AnyConfig:
    """The configuration of a folder or a name.

    Args:
        name: a folder with `config.json`, as training and `save_pretrained` write it; or the name of a model, see
            `list_models`.

    Raises:
        UnknownModelError: when `name` is neither.
        ConfigError: when the configuration of the folder cannot be read.
    """
    if is_saved(name):
        return _saved_class(Path(name)).read_config(Path(name))
    if Path(name).is_dir():
        hint = f"; of a training run, name {Path(name, 'best')}" if is_saved(Path(name, "best")) else ""
        raise UnknownModelError(f"model: the folder {name} has no {CONFIG_NAME}{hint}")
    return find_card(str(name)).config()


def is_saved(name: str | Path) -> bool:
    """Whether this is a folder with a model, which has weights of its own."""
    return (Path(name) / CONFIG_NAME).is_file()


def load_model(name: str | Path, weights: str | Path | None = None) -> AnyModel:
    """Load the model of a folder or a name, on the CPU and in evaluation mode.

    Args:
        name: as for `find_config`.
        weights: of a named model: ours (`.safetensors`), or a checkpoint of the official release. A named model
            without weights is random.

    Raises:
        UnknownModelError: when `name` is neither a folder with a model nor the name of one.
        WeightsError: when the weights cannot be read or do not fit.
        ValueError: for weights beside a folder, which has its own.
    """
    if is_saved(name):
        if weights is not None:
            raise ValueError(f"weights: {name} is a folder with weights of its own; leave --weights {weights} out")
        return _saved_class(Path(name)).from_pretrained(name)
    config = find_config(name)
    if weights is None:
        return config.build().eval()
    if Path(weights).suffix == ".safetensors":
        model = _build_on_meta(config).to_empty(device="cpu")
        load_weights(model, Path(weights))
    else:
        model = _load_official((config, *(variant() for variant in find_card(str(name)).variants)), Path(weights))
    return model.eval()


def _saved_class(folder: Path) -> type[AnyModel]:
    path = folder / CONFIG_NAME
    config = read_json(path)
    kind = config.get("type") if isinstance(config, dict) else None
    if kind not in _CLASSES:
        raise ConfigError(f"{path}.type: {kind!r} is no kind of model{nearest(str(kind), list(_CLASSES))}")
    return _CLASSES[kind]


def _build_on_meta(config: AnyConfig) -> AnyModel:
    with torch.device("meta"):
        return config.build()


def _load_official(configs: tuple[AnyConfig, ...], path: Path) -> AnyModel:
    """The first model that the checkpoint fits; of one that fits none, what is wrong is told for the first."""
    checkpoint = read_tensors(path)
    errors = []
    for config in configs:
        model = _build_on_meta(config)
        try:
            state_dict = convert_state_dict(checkpoint, model)
        except ValueError as error:
            errors.append(error)
        else:
            model.to_empty(device="cpu").load_state_dict(state_dict, strict=True)
            return model
    raise WeightsError(f"{path}: {errors[0]}") from errors[0]
