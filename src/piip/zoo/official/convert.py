"""State dicts of the official release into ours and back."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from piip.pyramid.interaction import InteractionConfig, interaction_units
from piip.tasks.classification.heads import MergedHeadConfig
from piip.tasks.classification.model import ClassificationModel
from piip.zoo.official.keys import official_names


class ConversionError(ValueError):
    """A state dict that does not fit the model: the message lists every tensor concerned."""


def convert_state_dict(state_dict: Mapping[str, Any], model: ClassificationModel) -> dict[str, Tensor]:
    """Rename the tensors of an official checkpoint to ours.

    Args:
        state_dict: under the official names, without a wrapper around it.
        model: of the same configuration, for example from `build_model`; it is not changed.

    Returns:
        The same tensors under the names that `model.load_state_dict(..., strict=True)` takes.

    Raises:
        ConversionError: listing missing and unexpected tensors, and those of another shape; or when the official
            code has no such head.
    """
    wrapped = [key for key, value in state_dict.items() if not isinstance(value, Tensor)]
    if wrapped:
        raise ConversionError(
            f"state_dict: {', '.join(map(repr, wrapped[:5]))} are not tensors; "
            f"pass the state dict inside the checkpoint, for example checkpoint['model']"
        )
    _check_heads(model)
    own = model.state_dict()
    names = official_names(list(own), model.config.pyramid)
    missing = [official for official in names.values() if official not in state_dict]
    unexpected = sorted(set(state_dict) - set(names.values()))
    reshaped = [
        f"{official} {tuple(state_dict[official].shape)}, expected {tuple(own[name].shape)}"
        for name, official in names.items()
        if official in state_dict and state_dict[official].shape != own[name].shape
    ]
    if missing or unexpected or reshaped:
        raise ConversionError(
            "the state dict does not fit the model"
            + _listing("missing", missing)
            + _listing("unexpected", unexpected)
            + _listing("of another shape", reshaped)
        )
    return {name: state_dict[official] for name, official in names.items()}


def official_state_dict(model: ClassificationModel) -> dict[str, Tensor]:
    """Return the weights under the official names and shapes: the way back of `convert_state_dict`.

    The tensors share their memory with the model's.

    Raises:
        ConversionError: when the official code has no model of this configuration.
    """
    _check_edges(model)
    _check_heads(model)
    own = model.state_dict()
    return {official: own[name] for name, official in official_names(list(own), model.config.pyramid).items()}


def _check_edges(model: ClassificationModel) -> None:
    pyramid = model.config.pyramid
    count = len(pyramid.branches)
    edges = pyramid.interaction.edges_between(count)
    units = [set(unit) for unit in interaction_units(edges)]
    if count > 4 or units != [set(unit) for unit in interaction_units(InteractionConfig().edges_between(count))]:
        raise ConversionError(
            f"the official code has two to four branches, with interactions both ways between neighbours from the last "
            f"branch to the first, or one; this model has {count} branches and the edges {edges}"
        )


def _check_heads(model: ClassificationModel) -> None:
    count, head = len(model.config.pyramid.branches), model.config.head
    branches = head.merging.branches if isinstance(head, MergedHeadConfig) else head.branches
    all_in_order = branches in (None, tuple(range(1, count + 1)))
    if not all_in_order or (count == 1 and isinstance(head, MergedHeadConfig)):
        raise ConversionError(
            f"the official code has a head on one branch alone, or heads on all branches in their order; this model "
            f"has {count} branches and a {type(head).__name__} on {'all' if branches is None else branches}"
        )


def _listing(what: str, names: list[str]) -> str:
    return f"\n  {what} ({len(names)}): {', '.join(names)}" if names else ""
