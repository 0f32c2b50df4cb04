"""The released weights, and the pretrained models that a card names, on the command line."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hub_server import Hub
from piip import ClassificationConfig, ClassificationModel, PreprocessConfig, SeparateHeadsConfig, official
from piip.shapes import SHAPE_NAMES
from piip.zoo import cards
from piip.zoo.cards import ModelCard
from piip.zoo.cards.card import REPOSITORY
from piip.zoo.pretrained import of_cards
from tiny_models import randomised, tiny_pyramid, tiny_vit

NAME = "piip_tiny"


def config() -> ClassificationConfig:
    """One that the official code has, for three shapes."""
    branches = [tiny_vit(embed_dim=64, layer_scale=1.0), tiny_vit(image_size=48, layer_scale=1.0)]
    return ClassificationConfig(
        pyramid=tiny_pyramid(*branches),
        head=SeparateHeadsConfig(num_classes=3, reads="first_patch"),
        preprocess=PreprocessConfig(input_size=48),
        class_names=SHAPE_NAMES[:3],
    )


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    card = ModelCard(name=NAME, task="classification", summary="", config=config, pretraining=("Tiny 1", "Tiny 2"))
    monkeypatch.setattr(cards, "_CARDS", {NAME: card})
    return card


@pytest.fixture
def trained(hub: Hub, card: ModelCard) -> ClassificationModel:
    """What the release has of it."""
    model = randomised(config().build()).eval()
    file = io.BytesIO()
    torch.save({"model": official.official_state_dict(model)}, file)
    hub.upload(REPOSITORY, **{f"classification/{NAME}.pth": file.getvalue()})
    return model


def test_official_weights(piip: Any, trained: ClassificationModel, data: Path, tmp_path: Path, hub: Hub) -> None:
    trained.save_pretrained(tmp_path / "trained")
    expected, found = (
        piip("eval", *model, "--data", data, "--num-workers", 0, "--json", "-")
        for model in ((tmp_path / "trained",), (NAME, "--weights", "official"))
    )
    assert found.status == 0, found.err
    assert json.loads(found.out) == json.loads(expected.out)
    assert "random" not in found.err
    predicted = piip("predict", NAME, data / "val", "--weights", "official")
    assert predicted.status == 0
    assert predicted.out == piip("predict", tmp_path / "trained", data / "val").out
    assert len(hub.downloads) == 1


def test_training_starts_from_official_weights(
    piip: Any, trained: ClassificationModel, data: Path, tmp_path: Path
) -> None:
    quick = ("--recipe", "finetune", "--training.epochs", 1, "--training.batch-size", 3, "--training.num-workers", 0)
    arguments = ("--data", data, "--out", tmp_path / "run", *quick, "--training.optimizer.lr", 0)
    result = piip("train", NAME, "--weights", "official", *arguments)
    assert result.status == 0, result.err
    final = ClassificationModel.from_pretrained(tmp_path / "run" / "final").state_dict()
    assert all(torch.equal(final[name], tensor) for name, tensor in trained.state_dict().items())


def test_training_starts_from_what_the_card_names(
    piip: Any, card: ModelCard, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    branches = randomised(config().build()).pyramid.branches
    for number, branch in enumerate(branches, 1):
        names = {"ls1.gamma": "gamma_1", "ls2.gamma": "gamma_2"}
        tensors = branch.state_dict()
        for ours, theirs in names.items():
            tensors = {name.replace(ours, theirs): tensor for name, tensor in tensors.items()}
        torch.save({"model": tensors}, tmp_path / f"tiny{number}.pth")
    published = {f"Tiny {number}": f"deit3:{tmp_path}/tiny{number}.pth" for number in (1, 2)}
    monkeypatch.setattr(of_cards, "PUBLISHED", published)
    quick = ("--recipe", "finetune", "--training.epochs", 1, "--training.batch-size", 3, "--training.num-workers", 0)
    arguments = ("--data", data, "--out", tmp_path / "run", *quick, "--training.optimizer.lr", 0)
    result = piip("train", NAME, "--pretrained", "card", *arguments)
    assert result.status == 0, result.err
    assert f"branch 2 from {tmp_path}/tiny2.pth (deit3)" in " ".join(result.err.split())
    final = ClassificationModel.from_pretrained(tmp_path / "run" / "final").pyramid.branches
    for found, expected in zip(final, branches, strict=True):
        assert torch.equal(found.patch_embed.proj.weight, expected.patch_embed.proj.weight)

    folder = piip("train", tmp_path / "run" / "final", "--pretrained", "card", *arguments[:2], "--out", tmp_path / "b")
    assert folder.status == 2
    assert "--pretrained: the model in" in folder.err
    assert "has no card; name the sources, or leave it out" in folder.err
