"""A model by its name or folder, with its weights."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from piip import ClassificationConfig, ClassificationModel, SeparateHeadsConfig, list_models, load_model
from piip.config import ConfigError, save_config
from piip.hub import WeightsError
from piip.zoo.cards import UnknownModelError, find_card
from piip.zoo.load import find_config, is_saved
from piip.zoo.official.keys import official_names
from tiny_models import images, randomised, tiny_pyramid

NAME = "piip_demo_shapes_96-48-32"
BATCH = images(2, 3, 96, 96)


@pytest.fixture(scope="module")
def named() -> ClassificationModel:
    """A named model with weights of which none is zero."""
    return randomised(load_model(NAME))


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
    model = load_model(NAME)
    assert not model.training
    assert model.config == find_config(NAME)
    torch.manual_seed(3)
    assert torch.equal(logits(load_model(NAME)), logits(model))
    assert not torch.equal(logits(load_model(NAME)), logits(model))


def test_our_weights(named: ClassificationModel, tmp_path: Path) -> None:
    save_file(named.state_dict(), tmp_path / "weights.safetensors")
    model = load_model(NAME, tmp_path / "weights.safetensors")
    assert not model.training
    assert torch.equal(logits(model), logits(named))


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "module"])
def test_official_checkpoints(named: ClassificationModel, tmp_path: Path, wrapper: str | None) -> None:
    checkpoint = official_checkpoint(named)
    torch.save(checkpoint if wrapper is None else {wrapper: checkpoint, "epoch": 3}, tmp_path / "official.pth")
    model = load_model(NAME, tmp_path / "official.pth")
    assert not model.training
    assert torch.equal(logits(model), logits(named))


def test_checkpoints_in_half_precision_give_models_in_fp32(named: ClassificationModel, tmp_path: Path) -> None:
    checkpoint = {name: tensor.half() for name, tensor in official_checkpoint(named).items()}
    torch.save(checkpoint, tmp_path / "official.pth")
    model = load_model(NAME, str(tmp_path / "official.pth"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert logits(model).isfinite().all()


def test_weights_that_do_not_fit(named: ClassificationModel, tmp_path: Path) -> None:
    checkpoint = official_checkpoint(named)
    removed = next(iter(checkpoint))
    del checkpoint[removed]
    torch.save(checkpoint, tmp_path / "official.pth")
    with pytest.raises(WeightsError, match=rf"official\.pth: [\s\S]*{removed}"):
        load_model(NAME, tmp_path / "official.pth")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors: .* missing: .* 1 not expected: 'x'"):
        load_model(NAME, tmp_path / "other.safetensors")
    for name in ("nothing.safetensors", "nothing.pth"):
        with pytest.raises(WeightsError, match=name):
            load_model(NAME, tmp_path / name)


def test_checkpoints_decide_between_the_variants_of_a_card(
    named: ClassificationModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(named.config, pyramid=tiny_pyramid())
    card = dataclasses.replace(find_card(NAME), config=lambda: other, variants=(lambda: named.config,))
    monkeypatch.setattr("piip.zoo.load.find_card", lambda _: card)
    torch.save(official_checkpoint(named), tmp_path / "official.pth")
    assert torch.equal(logits(load_model(NAME, tmp_path / "official.pth")), logits(named))
    torch.save({"x": torch.zeros(1)}, tmp_path / "neither.pth")
    with pytest.raises(WeightsError, match=r"neither\.pth: the state dict does not fit the model"):
        load_model(NAME, tmp_path / "neither.pth")


def test_by_folder(tmp_path: Path) -> None:
    config = ClassificationConfig(pyramid=tiny_pyramid(), head=SeparateHeadsConfig(num_classes=3))
    saved = randomised(config.build()).eval()
    saved.save_pretrained(tmp_path)
    assert is_saved(tmp_path)
    assert find_config(tmp_path) == config
    assert torch.equal(logits(load_model(tmp_path)), logits(saved))
    assert torch.equal(logits(load_model(str(tmp_path))), logits(saved))
    with pytest.raises(ValueError, match=r"a folder with weights of its own; leave --weights w\.pth out"):
        load_model(tmp_path, Path("w.pth"))


def test_neither_a_folder_nor_a_name(tmp_path: Path) -> None:
    assert not is_saved(tmp_path)
    with pytest.raises(UnknownModelError, match=r"has no config\.json"):
        load_model(tmp_path)
    with pytest.raises(UnknownModelError, match="did you mean 'piip_demo_shapes_96-48-32'"):
        load_model("piip_demo_shapes")
    save_config(SeparateHeadsConfig(), tmp_path / "config.json")
    with pytest.raises(ConfigError, match=r"config\.json\.type: 'SeparateHeadsConfig' is no kind of model"):
        load_model(tmp_path)
