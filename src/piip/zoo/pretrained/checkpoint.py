"""The tensors of a pretrained model, from a file or from timm."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from timm.models import get_pretrained_cfg
from torch import Tensor

from piip.config import nearest
from piip.weights import WeightsError
from piip.zoo.files import read_tensors
from piip.zoo.pretrained.augreg import convert_arrays, num_heads
from piip.zoo.pretrained.families import FAMILIES, Family, family_of_timm, from_timm

_ARRAYS = ".npz"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The tensors of a pretrained model.

    Attributes:
        source: the file or name that they are from.
        family: whose format they had.
        tensors: of ViTs by their names in ours, where `norm` and `head` are those after its last block; of others by
            the names in `piip.zoo.names`.
        num_heads: its attention heads, where the source tells; the tensors of most formats do not.
    """

    source: str
    family: Family
    tensors: Mapping[str, Tensor]
    num_heads: int | None = None


def read_checkpoint(path: str | Path, family: Family) -> Checkpoint:
    """Read a file; nothing in it is executed.

    Args:
        path: a state dict, see `read_tensors`; or AugReg's `.npz`.
        family: whose format it has.

    Raises:
        WeightsError: naming the file, when it cannot be read or is no checkpoint of such a format.
        ValueError: for a family that there is not.
    """
    path = Path(path)
    if family not in FAMILIES:
        raise ValueError(f"family: there is no {family!r}{nearest(str(family), list(FAMILIES))}")
    if path.suffix == _ARRAYS and family != "augreg":
        raise WeightsError(f"{path}: {_ARRAYS} is the format of the family 'augreg', not of {family!r}")
    content = read_tensors(path)
    try:
        tensors = convert_arrays(content) if path.suffix == _ARRAYS else _rename(content, family)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    return Checkpoint(source=str(path), family=family, tensors=tensors, num_heads=num_heads(content))


def read_timm(name: str) -> Checkpoint:
    """Download (once) the weights of one of timm's models of our families.

    Args:
        name: as timm has it, with or without the tag of the weights, for example `deit_base_patch16_224.fb_in1k`.

    Raises:
        WeightsError: for another model, or when the weights cannot be had.
    """
    name = _with_tag(name)
    family = family_of_timm(name)
    if family is None:
        known = [known for known in timm.list_pretrained() if family_of_timm(known)]
        raise WeightsError(f"timm/{name}: not one of timm's weights that a branch can start from{nearest(name, known)}")
    try:
        model: Any = timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError, HfHubHTTPError, HFValidationError) as error:
        raise WeightsError(f"timm/{name}: the weights cannot be had: {error}") from error
    return Checkpoint(
        source=f"timm/{name}",
        family=family,
        tensors={from_timm(name, family): tensor for name, tensor in model.state_dict().items()},
        num_heads=model.blocks[0].attn.num_heads if hasattr(model, "blocks") else None,
    )


def _with_tag(name: str) -> str:
    """The name with the tag that timm takes when none is given; unchanged where timm has no such model."""
    known = get_pretrained_cfg(name) if "." not in name else None
    return f"{name}.{known.tag}" if known is not None and known.tag else name


def _rename(content: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    own_name = FAMILIES[family].own_name
    tensors = {own_name(name): tensor for name, tensor in content.items()}
    if len(tensors) < len(content):
        raise WeightsError("has tensors under two names, of which only one can be loaded")
    return tensors
