"""Saving and loading task models: their configuration and their weights in one folder, here or on the hub."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id
from torch import nn

from piip.checks import check_type
from piip.config import load_config, save_config
from piip.devices import check_device, require_weights
from piip.downloads import fetch
from piip.files import atomic_path
from piip.readme import README_NAME, is_own, readme
from piip.weights import (
    INDEX_NAME,
    MAX_SHARD_SIZE,
    WEIGHTS_NAME,
    check_shard_size,
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
        config_class: of its configuration.
        pipeline_tag: what the hub calls the task.

    Args:
        config: what it is made of.
    """

    config_class: ClassVar[type[Any]]
    pipeline_tag: ClassVar[str]
    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__()
        check_type("config", config, self.config_class, f"a {self.config_class.__name__}")
        self.config = config

    def save_pretrained(self, folder: str | Path, *, max_shard_size: int | str = MAX_SHARD_SIZE) -> None:
        """Write the configuration and the weights, in place of those that are there.

        Args:
            folder: made if it is not there.
            max_shard_size: of a file, as `"5GB"` or in bytes; weights that take more are in several files with an
                index.

        Raises:
            ValueError: on the meta device, where there are no weights; for a size of nothing.
            FileExistsError: when a file stands where the folder would be.
        """
        require_weights(self, "save_pretrained")
        check_type("folder", folder, str | PathLike, "a path")
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

        Weights of another model that are there are deleted. A `README.md` is added where there is none, and takes the
        place of one that was made here, as a comment in it tells.

        Args:
            name: `owner/repository`, made if it is not there. What you are logged in as must be allowed to write to it.
            revision: branch to commit to, made from `main` if it is not there; `main` by default.
            private: whether a new repository is; None for what the owner has set.
            message: first line of the commit.
            max_shard_size: as for `save_pretrained`.

        Returns:
            Where the commit can be seen.

        Raises:
            HfHubHTTPError: when the hub refuses it.
            ValueError: for what is no such name; on the meta device, where there are no weights; for a size of nothing.
        """
        require_weights(self, "push_to_hub")
        check_type("name", name, str, "owner/repository")
        if "/" not in name:  # which the client takes for one of whoever is logged in, but not in every request
            raise ValueError(f"name: expected owner/repository; got {name!r}")
        validate_repo_id(name)
        check_type("revision", revision, str | None, "a branch")
        check_shard_size(max_shard_size)
        api = HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        present = api.list_repo_files(name, revision=revision)
        with TemporaryDirectory() as temporary:
            folder = Path(temporary)
            self.save_pretrained(folder, max_shard_size=max_shard_size)
            if README_NAME not in present or is_own(Path(api.hf_hub_download(name, README_NAME, revision=revision))):
                (folder / README_NAME).write_text(readme(self, name, revision), encoding="utf-8")
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
            device: where the weights go. On `meta` there are none, and none are fetched or read.

        Raises:
            FileNotFoundError: when there is neither such a folder nor such a repository.
            ConfigError: when the configuration cannot be read.
            WeightsError: when the weights cannot be fetched or read, or do not fit it.
            ValueError: for what is no name, and a device that is not there.
        """
        check_type("name", name, str | PathLike, "a folder, or owner/repository")
        device = check_device(device)
        folder = _find(name, revision)
        config = cls.read_config(folder)
        with torch.device("meta"):
            model: Self = config.build()
        if device.type != "meta":
            _fetch_weights(name, folder)
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
    check_shard_size(max_shard_size)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder}: this is a file, which a folder cannot replace; name another path")
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / CONFIG_NAME) as temporary:  # takes its place right after the weights
        save_config(config, temporary)
        save_weights(tensors, folder, max_shard_size)


def _find(name: str | Path, revision: str | None) -> Path:
    """The folder with the configuration of a model; for one of the hub, that of a commit in the client's cache."""
    if name and Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=[CONFIG_NAME, INDEX_NAME]))
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise FileNotFoundError(
            f"{name}: neither a folder with {CONFIG_NAME} and {WEIGHTS_NAME}, nor a repository that can be reached "
            f"on the hub: {error}"
        ) from error


def _fetch_weights(name: str | Path, folder: Path) -> None:
    """Complete a folder of the cache."""
    if folder == Path(name):
        return
    for file in weight_files(folder):
        if not (folder / file).exists():  # those of a commit never change
            fetch(str(name), file, "name the folder that all files of the repository are in", revision=folder.name)
