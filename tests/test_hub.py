"""Saving and loading of whole models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

import piip.hub
import piip.weights
from piip import (
    ClassificationConfig,
    ClassificationModel,
    LinearMergingConfig,
    MergedHeadConfig,
    SeparateHeadsConfig,
)
from piip.config import ConfigError, load_config, save_config
from piip.weights import WeightsError
from tiny_models import images, randomised, tiny_pyramid, tiny_vit

HEADS = (
    SeparateHeadsConfig(num_classes=3, reads="first_patch"),
    SeparateHeadsConfig(num_classes=3, reads="class_token"),
    SeparateHeadsConfig(num_classes=3, branches=(2,)),
    MergedHeadConfig(num_classes=3),
    MergedHeadConfig(num_classes=3, merging=LinearMergingConfig(branches=(2, 1))),
    MergedHeadConfig(num_classes=0),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model."""
    config = ClassificationConfig(pyramid=tiny_pyramid(), head=SeparateHeadsConfig(num_classes=3))
    randomised(config.build()).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("head", HEADS)
def test_round_trip(head: Any, tmp_path: Path) -> None:
    model = randomised(ClassificationConfig(pyramid=tiny_pyramid(), head=head).build()).eval()
    model.save_pretrained(tmp_path / "a" / "model")
    loaded = ClassificationModel.from_pretrained(str(tmp_path / "a" / "model"))

    assert not loaded.training
    assert loaded.config == model.config
    batch = images(2, 3, 48, 48)
    (expected,), (result,) = model(batch).values(), loaded(batch).values()
    assert torch.equal(result, expected)


def test_nothing_is_left_uninitialised(tmp_path: Path) -> None:
    vits = (
        tiny_vit(embed_dim=64, layer_scale=0.1, class_pos_embed="unused", drop_path=0.1, qk_norm=True, norm="rmsnorm"),
        tiny_vit(image_size=48, class_token=False, window_size=2, drop_path=0.1, drop_path_rule="linear"),
    )
    for attention in ("deformable", "regular"):
        pyramid = tiny_pyramid(*vits, attention=attention, drop_path=0.1)
        model = ClassificationConfig(pyramid=pyramid, head=MergedHeadConfig(num_classes=3)).build()
        model.save_pretrained(tmp_path)
        loaded = ClassificationModel.from_pretrained(tmp_path)
        # `to_empty` leaves garbage in whatever the file does not hold: parameters, buffers, tensors among attributes.
        saved = model.state_dict()
        held = dict(loaded.named_parameters()) | dict(loaded.named_buffers())
        assert all(torch.equal(tensor, saved[name]) for name, tensor in held.items())
        attributes = [value for module in loaded.modules() for value in vars(module).values()]
        assert not any(isinstance(value, torch.Tensor) for value in attributes)


def test_saving_again_replaces_the_files(folder: Path) -> None:
    other = randomised(ClassificationModel.from_pretrained(folder), seed=7)
    other.save_pretrained(folder)
    assert torch.equal(
        ClassificationModel.from_pretrained(folder).head.branches["1"].linear.weight,
        other.head.branches["1"].linear.weight,
    )
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_interrupted_saving_leaves_the_old_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "model.safetensors").read_bytes()

    def crash(_tensors: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    model = randomised(ClassificationModel.from_pretrained(folder), seed=7)
    monkeypatch.setattr(piip.weights, "save_file", crash)
    with pytest.raises(KeyboardInterrupt):
        model.save_pretrained(folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    ClassificationModel.from_pretrained(folder)


@pytest.mark.parametrize(("name", "error"), [("config.json", ConfigError), ("model.safetensors", WeightsError)])
def test_missing_file(folder: Path, name: str, error: type[Exception]) -> None:
    (folder / name).unlink()
    with pytest.raises(error, match=f"{name}: there is no such file"):
        ClassificationModel.from_pretrained(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"model\.safetensors: cannot be read as safetensors"):
        ClassificationModel.from_pretrained(folder)


def test_a_folder_in_the_place_of_the_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    with pytest.raises(WeightsError, match=r"model\.safetensors: cannot be read"):
        ClassificationModel.from_pretrained(folder)


def test_weights_of_another_shape(folder: Path) -> None:
    config = load_config(ClassificationConfig, folder / "config.json")
    save_config(replace(config, head=SeparateHeadsConfig(num_classes=4)), folder / "config.json")
    message = r"model\.safetensors: .* 4 of another shape: 'head.*weight is \(3, 64\), not \(4, 64\)'"
    with pytest.raises(WeightsError, match=message):
        ClassificationModel.from_pretrained(folder)


def test_weights_of_other_names(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["head.extra"] = weights.pop("pyramid.branches.0.cls_token").clone()
    save_file(weights, path)
    message = r"model\.safetensors: .* 1 missing: .*0\.cls_token'; 1 not expected: 'head\.extra'"
    with pytest.raises(WeightsError, match=message):
        ClassificationModel.from_pretrained(folder)


def test_config_that_cannot_be_built_names_the_file(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"depth": 2', '"depth": 3'))
    with pytest.raises(ConfigError, match=r"config\.json\.pyramid\.branches\[0\]: stages: .* but depth is 3"):
        ClassificationModel.from_pretrained(folder)


def test_from_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(folder)

    monkeypatch.setattr(piip.hub, "snapshot_download", download)
    ClassificationModel.from_pretrained("owner/model", revision="v1")
    assert asked == {"name": "owner/model", "revision": "v1", "allow_patterns": ["config.json", "model.safetensors"]}


def test_neither_a_folder_nor_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "not" / "there"  # cannot be the name of a repository
    with pytest.raises(FileNotFoundError, match=r"not/there: neither a folder .* nor a repository"):
        ClassificationModel.from_pretrained(missing)

    def offline(*_: Any, **__: Any) -> None:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(piip.hub, "snapshot_download", offline)
    with pytest.raises(FileNotFoundError, match=r"owner/model: neither .* no connection"):
        ClassificationModel.from_pretrained("owner/model")
