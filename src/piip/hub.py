"""Saving and loading task models: `config.json` and `model.safetensors` in one folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from piip.config import listing, load_config, save_config
from piip.files import atomic_path

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"


class WeightsError(ValueError):
    """Weights that cannot be read or do not fit the model: the message names the file and the tensors."""


class PretrainedModel(nn.Module):
    """A model with a `config` that has `build()`, saved and loaded as one folder."""

    config_class: ClassVar[type[Any]]
    config: Any

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the configuration and the weights; each file is replaced in one step.

        Args:
            folder: made if it is not there.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_config(self.config, folder / CONFIG_NAME)
        save_weights(self, folder / WEIGHTS_NAME)

    @classmethod
    def read_config(cls, folder: Path) -> Any:
        """Read the configuration of a model of this class that `save_pretrained` wrote.

        Raises:
            ConfigError: when it cannot be read.
        """
        return load_config(cls.config_class, folder / CONFIG_NAME)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, revision: str | None = None, device: str | torch.device = "cpu"
    ) -> Self:
        """Load a model from a folder that `save_pretrained` wrote, or from a repository of the Hugging Face hub.

        Args:
            name: the folder, or `owner/repository`.
            revision: branch, tag or commit of the repository.
            device: where the weights go.

        Raises:
            FileNotFoundError: when there is neither such a folder nor such a repository.
            ConfigError: when the configuration cannot be read.
            WeightsError: when the weights cannot be read or do not fit it.
        """
        folder = _find(name, revision)
        config = cls.read_config(folder)
        with torch.device("meta"):
            model = config.build()
        load_weights(model.to_empty(device=device), folder / WEIGHTS_NAME)
        return model.eval()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Puts a model into evaluation mode, and back as it was afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def save_weights(model: Any, path: Path) -> None:
    """Write a model's state dict as safetensors; the file is replaced in one step."""
    with atomic_path(path) as temporary:
        save_file({key: tensor.detach().contiguous() for key, tensor in model.state_dict().items()}, temporary)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a safetensors file that holds exactly the tensors of the model.

    Raises:
        WeightsError: naming the file and what is missing, left over or of another shape.
    """
    try:
        state_dict = load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such file") from None
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be read as safetensors: {error}") from error
    problems = _differences(state_dict, model.state_dict())
    if problems:
        raise WeightsError(f"{path}: the weights do not fit the model: {'; '.join(problems)}")
    model.load_state_dict(state_dict, strict=True)


def _differences(found: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
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
    return [f"{len(names)} {kind}: {listing(names, 3)}" for kind, names in kinds.items() if names]


def _find(name: str | Path, revision: str | None) -> Path:
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=[CONFIG_NAME, WEIGHTS_NAME]))
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise FileNotFoundError(
            f"{name}: neither a folder with {CONFIG_NAME} and {WEIGHTS_NAME}, nor a repository that can be reached "
            f"on the hub: {error}"
        ) from error
