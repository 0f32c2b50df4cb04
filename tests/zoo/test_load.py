"""A model by its name or folder, with its weights."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from piip import ClassificationConfig, ClassificationModel, SeparateHeadsConfig, create_model, list_models
from piip.config import ConfigError, save_config
from piip.weights import WeightsError
from piip.zoo.cards import UnknownModelError, find_card
from piip.zoo.load import find_config, is_saved
from piip.zoo.official.keys import official_names
from tiny_detector import tiny_detector
from tiny_models import images, randomised, tiny_pyramid

NAME = "piip_demo_shapes_96-48-32"
BATCH = images(2, 3, 96, 96)


@pytest.fixture(scope="module")
def named() -> ClassificationModel:
    """A named model with weights of which none is zero."""
    return randomised(create_model(NAME))


@torch.no_grad()
def logits(model: ClassificationModel) -> torch.Tensor:
    return model(BATCH)["logits"]


def official_checkpoint(model: ClassificationModel) -> dict[str, torch.Tensor]:
    """The weights under the names that an official model of these branches would have."""
    weights = model.state_dict()
    return {official: weights[name] for name, official in official_names(weights, model.config).items()}


def test_by_name() -> None:
    assert NAME in list_models()
    torch.manual_seed(3)
    model = create_model(NAME)
    assert not model.training
    assert model.config == find_config(NAME)
    torch.manual_seed(3)
    assert torch.equal(logits(create_model(NAME)), logits(model))
    assert not torch.equal(logits(create_model(NAME)), logits(model))


def test_our_weights(named: ClassificationModel, tmp_path: Path) -> None:
    save_file(named.state_dict(), tmp_path / "weights.safetensors")
    model = create_model(NAME, tmp_path / "weights.safetensors")
    assert not model.training
    assert torch.equal(logits(model), logits(named))


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "module"])
def test_official_checkpoints(named: ClassificationModel, tmp_path: Path, wrapper: str | None) -> None:
    checkpoint = official_checkpoint(named)
    torch.save(checkpoint if wrapper is None else {wrapper: checkpoint, "epoch": 3}, tmp_path / "official.pth")
    model = create_model(NAME, tmp_path / "official.pth")
    assert not model.training
    assert torch.equal(logits(model), logits(named))


def test_checkpoints_in_half_precision_give_models_in_fp32(named: ClassificationModel, tmp_path: Path) -> None:
    checkpoint = {name: tensor.half() for name, tensor in official_checkpoint(named).items()}
    torch.save(checkpoint, tmp_path / "official.pth")
    model = create_model(NAME, str(tmp_path / "official.pth"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert logits(model).isfinite().all()


def test_weights_that_do_not_fit(named: ClassificationModel, tmp_path: Path) -> None:
    checkpoint = official_checkpoint(named)
    removed = next(iter(checkpoint))
    del checkpoint[removed]
    torch.save(checkpoint, tmp_path / "official.pth")
    with pytest.raises(WeightsError, match=rf"official\.pth: [\s\S]*{removed}"):
        create_model(NAME, tmp_path / "official.pth")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors: .* missing: .* 1 not expected: 'x'"):
        create_model(NAME, tmp_path / "other.safetensors")
    for name in ("nothing.safetensors", "nothing.pth"):
        with pytest.raises(WeightsError, match=name):
            create_model(NAME, tmp_path / name)


def test_checkpoints_decide_between_the_variants_of_a_card(
    named: ClassificationModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(named.config, pyramid=tiny_pyramid())
    card = dataclasses.replace(find_card(NAME), config=lambda: other, variants=(lambda: named.config,))
    monkeypatch.setattr("piip.zoo.load.find_card", lambda _: card)
    torch.save(official_checkpoint(named), tmp_path / "official.pth")
    assert torch.equal(logits(create_model(NAME, tmp_path / "official.pth")), logits(named))
    torch.save({"x": torch.zeros(1)}, tmp_path / "neither.pth")
    with pytest.raises(WeightsError, match=r"neither\.pth: the state dict does not fit the model"):
        create_model(NAME, tmp_path / "neither.pth")


def test_by_folder(tmp_path: Path) -> None:
    config = ClassificationConfig(pyramid=tiny_pyramid(), head=SeparateHeadsConfig(num_classes=3))
    saved = randomised(config.build()).eval()
    saved.save_pretrained(tmp_path)
    assert is_saved(tmp_path)
    assert find_config(tmp_path) == config
    assert torch.equal(logits(create_model(tmp_path)), logits(saved))
    assert torch.equal(logits(create_model(str(tmp_path))), logits(saved))
    with pytest.raises(ValueError, match=r"a folder with weights of its own; leave w\.pth out"):
        create_model(tmp_path, Path("w.pth"))


def test_neither_a_folder_nor_a_name(tmp_path: Path) -> None:
    assert not is_saved(tmp_path)
    with pytest.raises(UnknownModelError, match=r"has no config\.json"):
        create_model(tmp_path)
    with pytest.raises(UnknownModelError, match="did you mean 'piip_demo_shapes_96-48-32'"):
        create_model("piip_demo_shapes")
    for weights in (None, "official"):
        with pytest.raises(UnknownModelError, match=r"as in piip\.MaskRCNN\.from_pretrained\('owner/model'\)"):
            create_model("owner/model", weights)
    save_config(SeparateHeadsConfig(), tmp_path / "config.json")
    with pytest.raises(ConfigError, match=r"config\.json\.type: 'SeparateHeadsConfig' is no kind of model"):
        create_model(tmp_path)


@pytest.mark.parametrize("num_classes", [None, 1000, 5])
def test_other_classes(named: ClassificationModel, tmp_path: Path, num_classes: int | None) -> None:
    save_file(named.state_dict(), tmp_path / "weights.safetensors")
    random = create_model(NAME, num_classes=num_classes)
    loaded = create_model(NAME, tmp_path / "weights.safetensors", num_classes=num_classes)
    for model in (random, loaded, create_model(NAME, num_classes=num_classes, device="meta")):
        assert not model.training
        assert model.config.num_classes == (num_classes or 1000)
        assert model.config.class_names == (() if num_classes == 5 else named.config.class_names)
        assert {len(model.state_dict()[name]) for name in model.class_tensors} == {num_classes or 1000}
    new = set(named.class_tensors) if num_classes == 5 else set()
    own = named.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in loaded.state_dict().items() if name not in new)


def test_other_classes_of_detectors(tmp_path: Path) -> None:
    saved = randomised(tiny_detector(class_names=("a", "b", "c")).build())
    saved.save_pretrained(tmp_path)
    model = create_model(tmp_path, num_classes=5)
    assert model.config.num_classes == 5
    assert model.config.class_names == ()
    assert len(model.get_parameter("box_head.classifier.weight")) == 6
    assert torch.equal(model.get_parameter("rpn.conv.weight"), saved.rpn.conv.weight)
    assert create_model(tmp_path, num_classes=3).config == saved.config


def test_on_the_meta_device(tmp_path: Path) -> None:
    ClassificationConfig(pyramid=tiny_pyramid()).build().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()  # which is not read
    for name in (NAME, tmp_path):
        model = create_model(name, device="meta")
        assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}
    with pytest.raises(ValueError, match=r"weights: there is no place for w\.pth on the meta device"):
        create_model(NAME, "w.pth", device="meta")


@pytest.mark.parametrize(
    ("num_classes", "message"),
    [
        (0, "must be at least 1, got 0"),
        (-1, "must be at least 1, got -1"),
        ("5", "expected a whole number, got '5'"),
        (5.0, r"expected a whole number, got 5\.0"),
        (True, "expected a whole number, got True"),
        ([5], r"expected a whole number, got \[5\]"),
    ],
)
def test_numbers_of_classes_that_are_none(num_classes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"num_classes: {message}"):
        create_model(NAME, num_classes=num_classes)


def test_numbers_of_numpy() -> None:
    assert type(create_model(NAME, num_classes=np.int64(5), device="meta").config.num_classes) is int


def test_what_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (None, 5, [NAME], tiny_detector()):
        with pytest.raises(ValueError, match=r"name: expected one of piip\.list_models\(\), or a folder; .*; got"):
            create_model(name)
    ClassificationConfig(pyramid=tiny_pyramid()).build().save_pretrained(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownModelError, match="model: there is no ''"):
        create_model("")
    with pytest.raises(UnknownModelError, match=r"model: model\.safetensors is a file; name the model that it is of"):
        create_model("model.safetensors")


def test_what_are_no_weights() -> None:
    for weights in (5, True, {"cls_token": torch.zeros(1)}):
        with pytest.raises(ValueError, match=r"weights: expected 'official' or a file; tensors go to .*; got "):
            create_model(NAME, weights)
    for weights in ("", "offical"):
        with pytest.raises(WeightsError, match=f"weights: there is no file '{weights}'; 'official' are those"):
            create_model(NAME, weights)


def test_weights_of_a_folder(named: ClassificationModel, tmp_path: Path) -> None:
    named.save_pretrained(tmp_path / "saved", max_shard_size=500_000)
    assert len(list((tmp_path / "saved").glob("*.safetensors"))) > 1
    assert torch.equal(logits(create_model(NAME, tmp_path / "saved")), logits(named))
