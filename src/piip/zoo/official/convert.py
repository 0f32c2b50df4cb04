"""State dicts of the official release into ours and back."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from torch import Tensor

from piip.checks import check_type
from piip.tasks.classification.model import ClassificationModel
from piip.tasks.detection.detector import Detector
from piip.tasks.models import AnyModel
from piip.tasks.segmentation.upernet import UperNet
from piip.zoo.official.keys import official_names
from piip.zoo.official.limits import model_limits, naming_limits
from piip.zoo.official.unused import unused_tensors

_SHOWN = 10  # tensors of a list in a message
_MODEL = "a task model of piip, or a Backbone"


class ConversionError(ValueError):
    """A state dict that does not fit the model: the message lists the first tensors concerned, and counts them."""


def convert_state_dict(state_dict: Mapping[str, Any], model: AnyModel) -> dict[str, Tensor]:
    """Rename the tensors of an official checkpoint to ours.

    What `unused_tensors` lists may be there or not, and is left out.

    Args:
        state_dict: under the official names, without a wrapper around it.
        model: of the same configuration, for example from `build_model`; it is not changed.

    Returns:
        The same tensors under the names that `model.load_state_dict(..., strict=True)` takes.

    Raises:
        ConversionError: listing missing and unexpected tensors, and those of another shape, the first of each; or when
            the official code has no names for such a head or such levels.
        ValueError: for what is no state dict, or no model.
    """
    check_type("state_dict", state_dict, Mapping, "tensors by their names, as torch.load reads them from a file")
    check_type("model", model, AnyModel, _MODEL)
    wrapped = [key for key, value in state_dict.items() if not isinstance(value, Tensor)]
    if wrapped:
        raise ConversionError(
            f"state_dict: {', '.join(map(repr, wrapped[:5]))} are not tensors; "
            f"pass the state dict inside the checkpoint, for example checkpoint['model']"
        )
    _refuse(naming_limits(model.config))
    own = model.state_dict()
    names = official_names(own, model.config)
    shapes = {official: own[name].shape for name, official in names.items()}
    unused = {official: tensor.shape for official, tensor in _unused(model).items()}
    missing = [official for official in shapes if official not in state_dict]
    unexpected = sorted(set(state_dict) - set(shapes) - set(unused))
    reshaped = [
        f"{official} {tuple(state_dict[official].shape)}, expected {tuple(shape)}"
        for official, shape in (shapes | unused).items()
        if official in state_dict and state_dict[official].shape != shape
    ]
    if missing or unexpected or reshaped:
        raise ConversionError(
            "the state dict does not fit the model"
            + _listing("missing", missing)
            + _listing("unexpected", unexpected)
            + _listing("of another shape", reshaped)
        )
    return {name: state_dict[official] for name, official in names.items()}


def official_state_dict(model: AnyModel) -> dict[str, Tensor]:
    """Return the weights under the official names and shapes: the way back of `convert_state_dict`.

    The tensors share their memory with the model's, but for those that the official model has and never uses.

    Raises:
        ConversionError: naming each field whose value the official constructors have no arguments for, or refuse.
            What those accept, and the official code then fails to run, is exported.
        ValueError: for what is no model.
    """
    check_type("model", model, AnyModel, _MODEL)
    _refuse(chain(naming_limits(model.config), model_limits(model.config)))
    own = model.state_dict()
    return {official: own[name] for name, official in official_names(own, model.config).items()} | _unused(model)


def _unused(model: AnyModel) -> dict[str, Tensor]:
    if isinstance(model, ClassificationModel):
        return {}
    backbone, prefix = (model.backbone, "backbone.") if isinstance(model, Detector | UperNet) else (model, "")
    like = next(backbone.parameters())
    return {
        prefix + name: tensor.to(like.device, like.dtype if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in unused_tensors(backbone.config).items()
    }


def _refuse(limits: Iterator[str]) -> None:
    found = list(limits)
    if found:
        raise ConversionError("\n  ".join(["the official code has no such model", *found]))


def _listing(what: str, names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"\n  {what} ({len(names)}): {', '.join(names[:_SHOWN])}{more}" if names else ""
