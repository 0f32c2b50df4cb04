"""Saving and loading task models: their configuration and their weights in one folder, here or on the hub."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from torch import nn

from piip.config import load_config, save_config
from piip.downloads import fetch
from piip.files import atomic_path
from piip.readme import README_NAME, readme
from piip.weights import (
    INDEX_NAME,
    MAX_SHARD_SIZE,
    WEIGHTS_NAME,
    is_weight_file,
    load_into,
    read_weights,
    save_weights,
    weight_files,
    weights_path,
)

CONFIG_NAME = "config.json"


class PretrainedModel(nn.Module):
    """A model with a `config` that has `build()`, saved and loaded as one folder.

    Attributes:
        pipeline_tag: what the hub calls the task.
    """

    config_class: ClassVar[type[Any]]
    pipeline_tag: ClassVar[str]
    config: Any

    def save_pretrained(self, folder: str | Path, *, max_shard_size: int | str = MAX_SHARD_SIZE) -> None:
        """Write the configuration and the weights, in place of those that are there.

        Args:
            folder: made if it is not there.
            max_shard_size: of a file, as `"5GB"` or in bytes; weights that take more are in several files with an
                index.
        """
        save_model(self.config, self.state_dict(), Path(folder), max_shard_size)

    def push_to_hub(
        self,
        name: str,
        *,
        revision: str | None = None,
        private: bool | None = None,
        message: str = "Upload the model",
        max_shard_size: int | str = MAX_SHARD_SIZE,
    ) -> str:
        """Put the model into a repository of the Hugging Face hub, in one commit.

        Weights of another model that are there are deleted. A `README.md` is added where there is none.

        Args:
            name: `owner/repository`, made if it is not there. What you are logged in as must be allowed to write to it.
            revision: branch to commit to; `main` by default.
            private: whether a new repository is; None for what the owner has set.
            message: first line of the commit.
            max_shard_size: as for `save_pretrained`.

        Returns:
            Where the commit can be seen.

        Raises:
            HfHubHTTPError: when the hub refuses it.
        """
        api = HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        present = api.list_repo_files(name, revision=revision)
        with TemporaryDirectory() as temporary:
            folder = Path(temporary)
            self.save_pretrained(folder, max_shard_size=max_shard_size)
            if README_NAME not in present:
                (folder / README_NAME).write_text(readme(self, name), encoding="utf-8")
            files = {path.name: path for path in folder.iterdir()}
            old = [file for file in present if is_weight_file(file) and file not in files]
            # Not `upload_folder`, which may make several commits: between them there would be half a model.
            commit = api.create_commit(
                name,
                [*map(CommitOperationDelete, old), *(CommitOperationAdd(file, path) for file, path in files.items())],
                commit_message=message,
                revision=revision,
            )
        return commit.commit_url

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

        Of a repository only the configuration and the weights are fetched, and only what has changed. Weights of any
        floating-point type become those of a model as it is built, in fp32.

        Args:
            name: the folder, or `owner/repository`.
            revision: branch, tag or commit of the repository.
            device: where the weights go.

        Raises:
            FileNotFoundError: when there is neither such a folder nor such a repository.
            ConfigError: when the configuration cannot be read.
            WeightsError: when the weights cannot be fetched or read, or do not fit it.
        """
        folder = _find(name, revision)
        config = cls.read_config(folder)
        with torch.device("meta"):
            model = config.build()
        load_into(model.to_empty(device=device), read_weights(folder), weights_path(folder))
        return model.eval()

    def rebuild(self, config: Any, renewed: Collection[str] = ()) -> Self:
        """A model of another configuration with these weights, of their types, on their device and in this mode.

        Parameters that are frozen here are frozen there.

        Args:
            config: of a model of this class; tensors that this one has too are of the same shape, but for `renewed`.
            renewed: names of tensors that are as the configuration makes them, and trained.
        """
        model: Self = config.build()
        parameters, first = dict(self.named_parameters()), next(self.parameters())
        model.to(first.device, first.dtype)
        for name, parameter in model.named_parameters():
            if name in parameters:
                parameter.data = parameter.data.to(parameters[name])
                parameter.requires_grad_(name in renewed or parameters[name].requires_grad)
        kept = {name: tensor for name, tensor in self.state_dict().items() if name not in renewed}
        model.load_state_dict(kept, strict=False)
        return model.train(self.training)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Puts a model into evaluation mode, and back as it was afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def save_model(
    config: Any, tensors: dict[str, torch.Tensor], folder: Path, max_shard_size: int | str = MAX_SHARD_SIZE
) -> None:
    """Write what `from_pretrained` reads: a configuration, and weights as they are, of any type.

    Args:
        config: of a task model.
        tensors: by their names in the model.
        folder: made if it is not there.
        max_shard_size: as for `PretrainedModel.save_pretrained`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / CONFIG_NAME) as temporary:  # takes its place right after the weights
        save_config(config, temporary)
        save_weights(tensors, folder, max_shard_size)


def _find(name: str | Path, revision: str | None) -> Path:
    if Path(name).is_dir():
        return Path(name)
    try:
        folder = Path(snapshot_download(str(name), revision=revision, allow_patterns=[CONFIG_NAME, INDEX_NAME]))
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise FileNotFoundError(
            f"{name}: neither a folder with {CONFIG_NAME} and {WEIGHTS_NAME}, nor a repository that can be reached "
            f"on the hub: {error}"
        ) from error
    for file in weight_files(folder):
        if not (folder / file).exists():  # those of a commit never change
            fetch(str(name), file, "name the folder that all files of the repository are in", revision=folder.name)
    return folder
