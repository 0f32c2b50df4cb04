"""A model by its name or folder, with its weights."""

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import get_args

import torch

from piip.checks import check_count, check_type
from piip.config import ConfigError, nearest, read_json
from piip.devices import check_device
from piip.hub import CONFIG_NAME
from piip.tasks.models import TaskConfig, TaskModel
from piip.weights import WeightsError, own_tensors
from piip.zoo.cards import ModelCard, UnknownModelError, find_card
from piip.zoo.checkpoints import fit_checkpoint
from piip.zoo.released import released_weights

OFFICIAL = "official"
"""As the name of weights: those of the official release."""

_CLASSES: dict[str, type[TaskModel]] = {model.config_class.__name__: model for model in get_args(TaskModel)}


def find_config(name: str | Path) -> TaskConfig:
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
    if name and Path(name).is_dir():
        hint = f"; of a training run, name {Path(name, 'best')}" if is_saved(Path(name, "best")) else ""
        raise UnknownModelError(f"model: the folder {name} has no {CONFIG_NAME}{hint}")
    if Path(name).is_file():
        raise UnknownModelError(f"model: {name} is a file; name the model that it is of, and the file as its weights")
    return find_card(str(name)).config()


def candidates(name: str | Path) -> list[TaskModel]:
    """The models that checkpoints of a folder or a name may be of, on the meta device.

    Raises:
        UnknownModelError: as `find_config`.
        ConfigError: as `find_config`.
    """
    config = find_config(name)
    return [_on_meta(own) for own in ([config] if is_saved(name) else find_card(str(name)).configs())]


def is_saved(name: str | Path) -> bool:
    """Whether this is a folder with a model, which has weights of its own."""
    return bool(name) and (Path(name) / CONFIG_NAME).is_file()


def create_model(
    name: str | Path,
    weights: str | Path | None = None,
    *,
    num_classes: int | None = None,
    device: str | torch.device = "cpu",
) -> TaskModel:
    """Make the model of a name, or load that of a folder, in evaluation mode.

    Args:
        name: as for `find_config`.
        weights: of a named model: `"official"` for those of the official release, which are fetched once; or a file,
            ours (`.safetensors`) or a checkpoint of the official release. Without, they are random. Of whatever type
            they are there, those of the model are fp32.
        num_classes: of the model, where other than it has: its classifiers are random then, and its classes have no
            names.
        device: where the model goes. On `meta` it has no weights, not even those of a folder.

    Raises:
        UnknownModelError: when `name` is neither a folder with a model nor the name of one.
        WeightsError: when the weights cannot be had or read, or do not fit.
        ValueError: for weights beside a folder, which has its own, or on `meta`; for a device that is not there; for a
            number of classes that is none, and arguments of other types.
    """
    check_type("name", name, str | PathLike, "one of piip.list_models(), or a folder; a configuration has build()")
    check_type("weights", weights, str | PathLike | None, f"{OFFICIAL!r} or a file; tensors go to load_state_dict")
    if num_classes is not None:
        num_classes = check_count("num_classes", num_classes)
    device = check_device(device)
    if weights is not None and is_saved(name):
        raise ValueError(f"weights: {name} is a folder with weights of its own; leave {weights} out")
    if weights is not None and device.type == "meta":
        raise ValueError(f"weights: there is no place for {weights} on the meta device; leave one of the two out")
    if device.type == "meta" or not (weights is not None or is_saved(name)):
        config = _with_num_classes(find_config(name), num_classes)
        return (_on_meta(config) if device.type == "meta" else config.build().to(device)).eval()
    if weights is None:
        model: TaskModel = _saved_class(Path(name)).from_pretrained(name, device=device)
    else:
        model = _load(find_card(str(name)), weights, device)
    config = _with_num_classes(model.config, num_classes)
    if config is not model.config:
        model = model.with_classes(_nameless(config.num_classes))
        model.config = config
    return model.to(device).eval()


def _saved_class(folder: Path) -> type[TaskModel]:
    path = folder / CONFIG_NAME
    config = read_json(path)
    kind = config.get("type") if isinstance(config, dict) else None
    if kind not in _CLASSES:
        raise ConfigError(f"{path}.type: {kind!r} is no kind of model{nearest(str(kind), list(_CLASSES))}")
    return _CLASSES[kind]


def _nameless(num_classes: int) -> tuple[str, ...]:
    """Names that no class has, for what asks for names."""
    return tuple(f"class {label}" for label in range(num_classes))


def _with_num_classes(config: TaskConfig, num_classes: int | None) -> TaskConfig:
    if num_classes in (None, config.num_classes):
        return config
    return replace(config.with_classes(_nameless(num_classes)), class_names=())


def _on_meta(config: TaskConfig) -> TaskModel:
    with torch.device("meta"):
        return config.build()


def _load(card: ModelCard, weights: str | Path, device: torch.device) -> TaskModel:
    if weights != OFFICIAL and not (weights and Path(weights).exists()):
        raise WeightsError(f"weights: there is no file {str(weights)!r}; {OFFICIAL!r} are those of the release")
    models = candidates(card.name)
    model, tensors = released_weights(card, models) if weights == OFFICIAL else fit_checkpoint(Path(weights), models)
    model.to_empty(device=device).load_state_dict(own_tensors(tensors), strict=True)
    return model
