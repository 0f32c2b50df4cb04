"""Tensors from files that others wrote, of which nothing is ever executed."""

import pickle
import zipfile
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from piip.weights import WeightsError

_DDP_PREFIX = "module."  # DistributedDataParallel puts it before every name
_EMA_PREFIX = "ema_"  # mmcv's hook puts it before the name of the tensor that is not in use
_WRAPPERS = ("state_dict", "model", "module")  # of mmcv; of DeiT and others; of DeepSpeed

# What training scripts keep beside the tensors, and torch.load does not know: their options, as a bag of values without
# behaviour, and scores, as scalars of NumPy, which has renamed a module since. None of these can execute anything.
_SCALAR = cast("Callable[..., Any]", np.float64(0).__reduce__()[0])
_HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    Namespace,
    np.dtype,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file, to the CPU; a PyTorch file is mapped into memory where its format allows it.

    Where there is a moving average of the weights beside them, what the official code evaluates is taken: of a DeiT
    script's `model` and `model_ema` that is `model`; mmcv's hook keeps the average under the names of the weights, and
    the weights themselves as `ema_...`, which are left out.

    Args:
        path: `.safetensors`, `.npz` (NumPy), or with any other suffix a PyTorch file with a state dict, bare or as
            `state_dict` (mmcv), `model` (DeiT) or `module` (DeepSpeed) in a dict.

    Returns:
        The tensors, by their names in the file; without the `module.` that a model wrapped for distributed training
        puts before all of them.

    Raises:
        WeightsError: naming the file, when it is missing, broken, holds something that could be executed, or is no
            state dict.
    """
    try:
        match path.suffix:
            case ".safetensors":
                tensors = load_file(path)
            case ".npz":
                tensors = _read_npz(path)
            case _:
                tensors = _state_dict(_read_pickle(path))
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such file") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a broken file can make the readers fail in any way
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise WeightsError(f"{path}: is broken, or not what its suffix says ({reason})") from error
    return _without_second_copies(_without_ddp_prefix(tensors))


def _without_ddp_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if not all(name.startswith(_DDP_PREFIX) for name in tensors):
        return tensors
    return {name.removeprefix(_DDP_PREFIX): tensor for name, tensor in tensors.items()}


def _without_second_copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    copies = {_EMA_PREFIX + name.replace(".", "_") for name in tensors}
    return {name: tensor for name, tensor in tensors.items() if name not in copies}


def _read_npz(path: Path) -> dict[str, Tensor]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _read_pickle(path: Path) -> Any:
    is_zip = zipfile.is_zipfile(path)  # older files can be read, but not be mapped into memory
    if not is_zip:
        _check_pickle(path)
    with safe_globals(_HARMLESS):
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
        except pickle.UnpicklingError as error:
            raise _refusal(sorted(get_unsafe_globals_in_checkpoint(path)) if is_zip else []) from error


def _check_pickle(path: Path) -> None:
    """Refuse what is no file of PyTorch at all: of a picture or a page nobody needs to hear that it may be trusted."""
    with path.open("rb") as file:
        beginning = file.read(16)
    if not beginning.startswith(pickle.PROTO):
        raise WeightsError(
            f"is no PyTorch file, or is broken: it begins with {beginning!r}; name a checkpoint, or get it again"
        )


def _refusal(culprits: list[str]) -> WeightsError:
    why = f"holds {', '.join(culprits)}" if culprits else "is broken, or holds more than tensors and plain values"
    return WeightsError(
        f"refused, and nothing in it executed: it {why}; if you trust where it is from, load it yourself and save the "
        f"tensors alone"
    )


def _state_dict(content: Any) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise WeightsError(f"holds a {type(content).__name__}, where a state dict is expected")
    others = [key for key, value in content.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if others:
        raise WeightsError(
            f"{', '.join(map(repr, others[:5]))} are not tensors; a state dict is expected, bare or as one of "
            f"{', '.join(_WRAPPERS)} in a dict"
        )
    return dict(content)
