"""A model by its name or folder, with its weights."""

from pathlib import Path

import torch

from piip.config import ConfigError, from_dict, nearest, read_json
from piip.hub import CONFIG_NAME, WeightsError, load_weights
from piip.tasks.classification.model import ClassificationConfig, ClassificationModel
from piip.tasks.detection.mask_rcnn.model import MaskRCNN, MaskRCNNConfig
from piip.zoo.cards import UnknownModelError, find_card
from piip.zoo.files import read_tensors
from piip.zoo.official import convert_state_dict

_CONFIGS: dict[str, type[ClassificationConfig] | type[MaskRCNNConfig]] = {
    config.__name__: config for config in (ClassificationConfig, MaskRCNNConfig)
}


def find_config(name: str | Path) -> ClassificationConfig | MaskRCNNConfig:
    """The configuration of a folder or a name.

    Args:
        name: a folder with `config.json`, as training and `save_pretrained` write it; or the name of a model, see
            `list_models`.

    Raises:
        UnknownModelError: when `name` is neither.
        ConfigError: when the configuration of the folder cannot be read.
    """
    if is_saved(name):
        file = Path(name) / CONFIG_NAME
        data = read_json(file)
        kind = data.get("type", "ClassificationConfig") if isinstance(data, dict) else "ClassificationConfig"
        if kind not in _CONFIGS:
            raise ConfigError(f"{file}.type: {kind!r} is not known here{nearest(str(kind), list(_CONFIGS))}")
        return from_dict(_CONFIGS[kind], data, where=str(file))
    if Path(name).is_dir():
        hint = f"; of a training run, name {Path(name, 'best')}" if is_saved(Path(name, "best")) else ""
        raise UnknownModelError(f"model: the folder {name} has no {CONFIG_NAME}{hint}")
    return find_card(str(name)).config()


def is_saved(name: str | Path) -> bool:
    """Whether this is a folder with a model, which has weights of its own."""
    return (Path(name) / CONFIG_NAME).is_file()


def load_model(name: str | Path, weights: str | Path | None = None) -> ClassificationModel | MaskRCNN:
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
        config = find_config(name)
        found = ClassificationModel if isinstance(config, ClassificationConfig) else MaskRCNN
        return found.from_pretrained(name)
    config = find_config(name)
    if weights is None:
        return config.build().eval()
    with torch.device("meta"):
        model = config.build()
    model.to_empty(device="cpu")
    if Path(weights).suffix == ".safetensors":
        load_weights(model, Path(weights))
    else:
        _load_official(model, Path(weights))
    return model.eval()


def _load_official(model: ClassificationModel | MaskRCNN, path: Path) -> None:
    checkpoint = read_tensors(path)
    try:
        state_dict = convert_state_dict(checkpoint, model)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    model.load_state_dict(state_dict, strict=True)
