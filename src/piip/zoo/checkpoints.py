"""Checkpoints of models whose configuration is known: ours and official ones."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from piip.files import atomic_path
from piip.tasks.models import AnyModel
from piip.weights import UNUSED_PREFIX, WeightsError, check_fit, own_tensors, read_weights
from piip.zoo.files import read_tensors
from piip.zoo.official import convert_state_dict, official_state_dict
from piip.zoo.official.keys import official_names

ModelT = TypeVar("ModelT", bound=AnyModel)

SUFFIX = ".safetensors"


def fit_checkpoint(path: Path, models: Iterable[ModelT]) -> tuple[ModelT, dict[str, Tensor]]:
    """Find the model that a checkpoint is of, and give its tensors the names that they have there.

    Args:
        path: our weights (`.safetensors`, or the folder of a model), or a checkpoint of the official release.
        models: those that it may be of, on the meta device; only as many are made as it takes.

    Returns:
        The first that the checkpoint fits. Its tensors, mapped into memory, as they are in the file; with those that
        only the official model has, and never uses, under `UNUSED_PREFIX`.

    Raises:
        WeightsError: naming the file, when it cannot be read or fits none of the models; what is wrong is told for the
            first.
    """
    tensors = read_weights(path) if path.is_dir() else read_tensors(path)
    own_names = _check if is_ours(path) else _convert
    errors = []
    for model in models:
        try:
            return model, own_names(tensors, model)
        except ValueError as error:
            errors.append(error)
    raise WeightsError(f"{path}: {errors[0]}") from errors[0]


def is_ours(path: Path) -> bool:
    """Whether weights are in our format, and not in the official one."""
    return path.is_dir() or path.suffix == SUFFIX


def save_official(model: AnyModel, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a checkpoint that the official code loads: a plain state dict; the file is replaced in one step.

    Args:
        model: on the meta device; it gets the tensors.
        tensors: by their names in the model, and under `UNUSED_PREFIX`, as `fit_checkpoint` gives them. What the
            official model has beside these is written as its constructor makes it.
        path: the file.

    Raises:
        ConversionError: when the official code has no such model.
    """
    own = own_tensors(tensors)
    unused = {name.removeprefix(UNUSED_PREFIX): tensor for name, tensor in tensors.items() if name not in own}
    model.load_state_dict(own, strict=True, assign=True)
    state_dict = official_state_dict(model) | unused
    with atomic_path(path) as temporary:
        torch.save({name: tensor.detach() for name, tensor in state_dict.items()}, temporary)


def _check(tensors: dict[str, Tensor], model: AnyModel) -> dict[str, Tensor]:
    check_fit(tensors, model)
    return tensors


def _convert(tensors: dict[str, Tensor], model: AnyModel) -> dict[str, Tensor]:
    own = convert_state_dict(tensors, model)
    used = set(official_names(own, model.config).values())
    return own | {UNUSED_PREFIX + name: tensor for name, tensor in tensors.items() if name not in used}
