"""Saving and loading of whole models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants, load_torch_model
from huggingface_hub import hf_hub_download as hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

import piip.hub
import piip.weights
from hub_server import Hub
from piip import (
    DINO,
    ClassificationConfig,
    ClassificationModel,
    LinearMergingConfig,
    MaskRCNN,
    MergedHeadConfig,
    SeparateHeadsConfig,
    UperNet,
    create_model,
)
from piip.config import ConfigError, load_config, save_config
from piip.weights import WeightsError
from tiny_detector import tiny_detector
from tiny_dino import tiny_dino
from tiny_models import images, randomised, tiny_pyramid, tiny_vit
from tiny_segmenter import tiny_segmenter

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


def sharded(folder: Path, seed: int = 0, max_shard_size: int = 100_000) -> ClassificationModel:
    """A model that is saved in several files."""
    config = ClassificationConfig(pyramid=tiny_pyramid(), head=SeparateHeadsConfig(num_classes=3))
    model = randomised(config.build(), seed=seed)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    return model


def assert_equal(loaded: torch.nn.Module, model: torch.nn.Module) -> None:
    own = model.state_dict()
    assert set(loaded.state_dict()) == set(own)
    assert all(torch.equal(tensor, own[name]) for name, tensor in loaded.state_dict().items())


def test_large_models_are_in_several_files(tmp_path: Path) -> None:
    model = sharded(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    shards = [name for name in names if name.endswith(".safetensors")]
    assert names == sorted(["config.json", "model.safetensors.index.json", *shards])
    assert len(shards) > 2
    largest = max(tensor.nbytes for tensor in model.state_dict().values())
    assert largest > 100_000  # is in a file of its own
    assert all((tmp_path / name).stat().st_size < largest + 10_000 for name in shards)
    assert_equal(ClassificationModel.from_pretrained(tmp_path), model)
    # Others read it as well.
    other = ClassificationConfig(pyramid=tiny_pyramid(), head=SeparateHeadsConfig(num_classes=3)).build()
    load_torch_model(other, tmp_path, strict=True)
    assert_equal(other, model)


@pytest.mark.parametrize(
    "config", [tiny_detector(), tiny_dino(), tiny_segmenter()], ids=["mask_rcnn", "dino", "upernet"]
)
def test_models_of_all_tasks(tmp_path: Path, hub: Hub, config: Any) -> None:
    model = randomised(config.build())
    model.save_pretrained(tmp_path, max_shard_size=100_000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    for loaded in (type(model).from_pretrained(tmp_path), create_model(tmp_path)):
        assert loaded.config == config
        assert_equal(loaded, model)
    upload(hub, "owner/model", tmp_path)
    assert_equal(type(model).from_pretrained("owner/model"), model)


def upload(hub: Hub, repository: str, folder: Path) -> None:
    hub.files.pop(repository, None)
    hub.upload(repository, **{path.name: path.read_bytes() for path in folder.iterdir()})


def fetched(hub: Hub) -> set[str]:
    """The files whose contents were asked for."""
    paths = [path for method, path in hub.requests if method == "GET" and not path.startswith("/api/")]
    return {
        next(part for part in path.split("/") if part.endswith((".json", ".safetensors", ".bin"))) for path in paths
    }


@pytest.mark.parametrize("size", [100_000, 10**9])
def test_from_the_hub(hub: Hub, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = sharded(tmp_path / "saved", max_shard_size=size)
    needed = {path.name for path in (tmp_path / "saved").iterdir()}
    (tmp_path / "saved" / "model-other.safetensors").write_bytes(b"x" * 5000)
    (tmp_path / "saved" / "pytorch_model.bin").write_bytes(b"x" * 5000)
    upload(hub, "owner/model", tmp_path / "saved")
    assert_equal(ClassificationModel.from_pretrained("owner/model"), model)
    assert fetched(hub) == needed

    asked = len(hub.downloads)
    assert_equal(ClassificationModel.from_pretrained("owner/model", revision="v1"), model)
    assert len(hub.downloads) == asked
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_equal(ClassificationModel.from_pretrained("owner/model"), model)


def test_a_new_model_on_the_hub(hub: Hub, tmp_path: Path) -> None:
    sharded(tmp_path / "first")
    upload(hub, "owner/model", tmp_path / "first")
    ClassificationModel.from_pretrained("owner/model")
    second = sharded(tmp_path / "second", seed=7)
    upload(hub, "owner/model", tmp_path / "second")
    assert_equal(ClassificationModel.from_pretrained("owner/model"), second)


def test_offline_with_a_part_of_it(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sharded(tmp_path / "saved")
    upload(hub, "owner/model", tmp_path / "saved")
    hub_download("owner/model", "config.json")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = r"owner/model/model\.safetensors: is not in the cache, .*, and HF_HUB_OFFLINE forbids to fetch it"
    with pytest.raises(WeightsError, match=message):
        ClassificationModel.from_pretrained("owner/model")


def test_an_interrupted_download_goes_on(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = sharded(tmp_path / "saved", max_shard_size=10**9)
    upload(hub, "owner/model", tmp_path / "saved")
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    hub.drop_after = [10**9, 50 * 1024]  # the configuration comes first
    assert_equal(ClassificationModel.from_pretrained("owner/model"), model)
    assert "bytes=51200-" in hub.downloads


@pytest.mark.filterwarnings("error")
def test_on_the_meta_device(folder: Path, hub: Hub) -> None:
    upload(hub, "owner/model", folder)
    (folder / "model.safetensors").unlink()  # which is not read
    for name in (folder, "owner/model"):
        model = ClassificationModel.from_pretrained(name, device="meta")
        assert not model.training
        assert model.config == load_config(ClassificationConfig, folder / "config.json")
        assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}
    assert fetched(hub) == {"config.json"}


def test_a_model_without_weights_is_not_saved(folder: Path, hub: Hub, tmp_path: Path) -> None:
    model = ClassificationModel.from_pretrained(folder, device="meta")
    with pytest.raises(ValueError, match=r"save_pretrained: this model is on the meta device, so it has no weights"):
        model.save_pretrained(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(ValueError, match=r"push_to_hub: this model is on the meta device, so it has no weights"):
        model.push_to_hub("owner/model")
    assert hub.created == hub.requests == []


@pytest.mark.parametrize(
    "config",
    [ClassificationConfig(pyramid=tiny_pyramid()), tiny_detector(), tiny_dino(), tiny_segmenter()],
    ids=["classifier", "mask_rcnn", "dino", "upernet"],
)
def test_a_model_without_weights_does_not_predict(config: Any) -> None:
    with torch.device("meta"):
        model = config.build()
    with pytest.raises(ValueError, match=r"predict: this model is on the meta device, so it has no weights; make it"):
        model.predict(torch.zeros(3, 64, 64))


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "hpu", "", None])
def test_a_device_that_is_not_there(folder: Path, device: Any) -> None:
    for load in (ClassificationModel.from_pretrained, create_model):
        with pytest.raises(ValueError, match=rf"device: '?{device}'? cannot be used: .*; there are cpu"):
            load(folder, device=device)


@pytest.mark.parametrize("model", [ClassificationModel, MaskRCNN, DINO, UperNet])
def test_what_is_no_configuration(model: Any) -> None:
    for config in (None, "piip_demo_shapes_96-48-32", tiny_pyramid(), model.config_class):
        with pytest.raises(ValueError, match=f"config: expected a {model.config_class.__name__}; got "):
            model(config)


def test_what_is_neither_a_folder_nor_a_name(
    folder: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ClassificationModel.from_pretrained(folder)
    monkeypatch.chdir(folder)
    for name in (None, 5, [folder]):
        with pytest.raises(ValueError, match="name: expected a folder, or owner/repository; got"):
            ClassificationModel.from_pretrained(name)
        with pytest.raises(ValueError, match="folder: expected a path; got"):
            model.save_pretrained(name)
        with pytest.raises(ValueError, match="name: expected owner/repository; got"):
            model.push_to_hub(name)
    with pytest.raises(FileNotFoundError, match=": neither a folder with"):
        ClassificationModel.from_pretrained("")
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="file: this is a file, which a folder cannot replace; name another path"):
        model.save_pretrained(tmp_path / "file")
    assert hub.created == []


@pytest.mark.parametrize("size", [None, 0, -1, 1.5, True, "5", "big", "GB", "-5GB", "0GB", "0.0MB", []])
def test_sizes_that_no_file_has(folder: Path, hub: Hub, tmp_path: Path, size: Any) -> None:
    model = ClassificationModel.from_pretrained(folder)
    with pytest.raises(ValueError, match="max_shard_size: "):
        model.save_pretrained(tmp_path / "other", max_shard_size=size)
    with pytest.raises(ValueError, match="max_shard_size: "):
        model.push_to_hub("owner/model", max_shard_size=size)
    assert not (tmp_path / "other").exists()
    assert hub.created == []


def test_neither_a_folder_nor_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "not" / "there"  # cannot be the name of a repository
    with pytest.raises(FileNotFoundError, match=r"not/there: neither a folder .* nor a repository"):
        ClassificationModel.from_pretrained(missing)

    def offline(*_: Any, **__: Any) -> None:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(piip.hub, "snapshot_download", offline)
    with pytest.raises(FileNotFoundError, match=r"owner/model: neither .* no connection"):
        ClassificationModel.from_pretrained("owner/model")
