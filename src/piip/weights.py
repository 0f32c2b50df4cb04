"""The weights of a model in a folder: safetensors, in one file or in several with an index."""

import json
import re
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from piip.checks import check_count
from piip.config import ConfigError, listing, read_json
from piip.files import atomic_path, flush

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = f"{WEIGHTS_NAME}.index.json"
MAX_SHARD_SIZE = "5GB"
UNUSED_PREFIX = "official_unused."
"""Before the names of tensors of a converted checkpoint that no model has; they are kept for the way back."""

_SHARD = re.compile(r"\.?model-\d{5}-of-\d{5}-[0-9a-f]{8}(\.tmp)?\.safetensors")  # of `atomic_path` too


class WeightsError(ValueError):
    """Weights that cannot be read or do not fit the model: the message names the file and the tensors."""


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to one file, which is replaced in one step."""
    own, storages = dict[str, Tensor](), set[int]()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()  # which names cannot share in this format
        own[name] = tensor.detach().clone() if storage in storages else tensor.detach()
        own[name] = own[name].contiguous()
        storages.add(storage)
    with atomic_path(path) as temporary:
        save_file(own, temporary)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, mapped into memory.

    Raises:
        WeightsError: naming the file, when it is missing or broken.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such file") from None
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be read as safetensors: {error}") from error


def save_weights(tensors: Mapping[str, Tensor], folder: Path, max_shard_size: int | str = MAX_SHARD_SIZE) -> None:
    """Write tensors to a folder, in place of those that are there.

    What is read from the folder is always of one call, whenever it is interrupted: files of several have names of their
    own, and count from the moment at which the index that names them is there.

    Args:
        tensors: by their names in the model.
        folder: is there.
        max_shard_size: of a file, as `"5GB"` or in bytes.
    """
    tag = secrets.token_hex(4)
    split = split_torch_state_dict_into_shards(
        dict(tensors), filename_pattern=f"model{{suffix}}-{tag}.safetensors", max_shard_size=max_shard_size
    )
    index = folder / INDEX_NAME
    if split.is_sharded:
        _save_shards(tensors, split.filename_to_tensors, folder)
        with atomic_path(index) as temporary:
            temporary.write_text(json.dumps({"metadata": split.metadata, "weight_map": split.tensor_to_filename}))
        (folder / WEIGHTS_NAME).unlink(missing_ok=True)
    else:
        save_tensors(tensors, folder / WEIGHTS_NAME)
        index.unlink(missing_ok=True)
        flush(folder)
    _remove_shards(folder, but=split.filename_to_tensors)


def check_shard_size(size: int | str) -> None:
    """Refuse what is no size of a file.

    Raises:
        ValueError: saying what was given.
    """
    if not isinstance(size, str):
        check_count("max_shard_size", size)
        return
    number = re.fullmatch(r"(\d+(?:\.\d+)?)\s*[KMGT]B", size.strip(), re.IGNORECASE)
    if number is None or float(number[1]) == 0:
        raise ValueError(f"max_shard_size: expected a number with KB, MB, GB or TB, as '5GB', got {size!r}")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder that `save_weights` has written, mapped into memory.

    Raises:
        WeightsError: naming the file, when one is missing, broken, or not what the index says.
    """
    tensors = dict[str, Tensor]()
    for file, names in weight_files(folder).items():
        own = read_safetensors(folder / file)
        if names and names != own.keys():
            raise WeightsError(f"{folder / file}: does not hold the tensors that {INDEX_NAME} says; get both again")
        tensors |= own
    return tensors


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Give a model its tensors.

    Args:
        model: with memory; as it was where an error is raised.
        tensors: exactly those of the model, of any type, and some under `UNUSED_PREFIX`.
        source: the file or folder that the message names.

    Raises:
        WeightsError: with what is missing, left over or of another shape.
    """
    try:
        check_fit(tensors, model)
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from error
    model.load_state_dict(own_tensors(tensors), strict=True)


def own_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those that a model has: not those under `UNUSED_PREFIX`."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(UNUSED_PREFIX)}


def weights_path(folder: Path) -> Path:
    """The file that the weights of a folder are in, or the index that names the files."""
    index = folder / INDEX_NAME
    return index if index.exists() else folder / WEIGHTS_NAME


def is_weight_file(name: str) -> bool:
    """Whether a folder or repository with a file of this name has weights, or what names their files, in it."""
    return re.fullmatch(r"model(-[\w-]+)?\.safetensors(\.index\.json)?", name) is not None


def weight_files(folder: Path) -> dict[str, frozenset[str]]:
    """The files that the weights of a folder are in, and the tensors that an index names of each; none without index.

    Raises:
        WeightsError: naming an index that cannot be read.
    """
    path = weights_path(folder)
    if path.name == WEIGHTS_NAME:
        return {WEIGHTS_NAME: frozenset()}
    try:
        index = read_json(path)
    except ConfigError as error:
        raise WeightsError(str(error)) from error
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(f"{path}: has no weight_map, so it is no index of weights")
    files = list(dict.fromkeys(map(str, weight_map.values())))
    elsewhere = [file for file in files if not re.fullmatch(r"[\w-][\w.-]*\.safetensors", file)]
    if elsewhere:
        raise WeightsError(f"{path}: {listing(elsewhere, 3)}: not the name of a .safetensors file beside the index")
    return {file: frozenset(name for name, holder in weight_map.items() if holder == file) for file in files}


def check_fit(tensors: Mapping[str, Tensor], model: nn.Module) -> None:
    """Refuse tensors that are not exactly those of a model, but for those under `UNUSED_PREFIX`.

    Raises:
        WeightsError: with what is missing, left over or of another shape.
    """
    found, expected = own_tensors(tensors), model.state_dict()
    shapes = [
        f"{name} is {tuple(found[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    kinds = {
        "missing": [name for name in expected if name not in found],
        "not expected": [name for name in found if name not in expected],
        "of another shape": shapes,
    }
    problems = [f"{len(names)} {kind}: {listing(names, 3)}" for kind, names in kinds.items() if names]
    if problems:
        raise WeightsError(f"the weights do not fit the model: {'; '.join(problems)}")


def _save_shards(tensors: Mapping[str, Tensor], shards: Mapping[str, Sequence[str]], folder: Path) -> None:
    """Write files that nothing names yet: all of them, or none."""
    try:
        for file, names in shards.items():
            save_tensors({name: tensors[name] for name in names}, folder / file)
    except BaseException:
        _remove(folder / file for file in shards)
        raise


def _remove_shards(folder: Path, but: Collection[str]) -> None:
    """Remove the files of earlier calls, complete or not."""
    _remove(path for path in folder.iterdir() if _SHARD.fullmatch(path.name) and path.name not in but)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
