"""Official checkpoints into ours and back, bit for bit."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from piip import (
    BackboneConfig,
    BEiTConfig,
    ClassificationConfig,
    ConvNeXtConfig,
    LevelConfig,
    MaskRCNN,
    SeparateHeadsConfig,
    create_model,
    official,
    simple_pyramid,
)
from piip.pyramid import InteractionConfig, PyramidConfig
from piip.tasks.detection.dino import DINOConfig, TransformerConfig
from piip.tasks.segmentation.upernet.model import UperNetConfig
from piip.weights import UNUSED_PREFIX, WEIGHTS_NAME
from piip.zoo import cards
from piip.zoo.cards import ModelCard
from tiny_detector import tiny_detector
from tiny_dino import tiny_dino
from tiny_models import randomised, tiny_pyramid, tiny_vit
from tiny_segmenter import tiny_segmenter

HAS_PROC = pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="the system has no folder that nobody can write to"
)


def classifier() -> ClassificationConfig:
    branches = [tiny_vit(embed_dim=64, layer_scale=1.0), tiny_vit(image_size=48, layer_scale=1.0)]
    head = SeparateHeadsConfig(num_classes=3, reads="first_patch")
    return ClassificationConfig(pyramid=tiny_pyramid(*branches), head=head)


def with_beit() -> Any:
    """A detector whose official model stores indices that it does not need."""
    beit = BEiTConfig(image_size=64, depth=2, embed_dim=32, num_heads=2, stages=(1, 1), window_size=2, layer_scale=0.1)
    vit = tiny_vit(image_size=96, class_token=False, layer_scale=1.0, window_size=2)
    return tiny_detector(backbone=BackboneConfig(pyramid=tiny_pyramid(beit, vit)))


def with_convnext() -> Any:
    """A detector whose official model stores a norm that it does not use."""
    widths, depths = (32, 32, 64, 64), (1, 1, 1, 1)
    branch = ConvNeXtConfig(image_size=64, widths=widths, depths=depths, stages=(1, 2, 2, 2))
    levels = tuple(LevelConfig(stage=stage, scale=1) for stage in range(4))
    alone = PyramidConfig(branches=(branch,), interaction=InteractionConfig(edges=()))
    return tiny_detector(backbone=BackboneConfig(pyramid=alone, merging=None, levels=levels))


def dino() -> DINOConfig:
    """A detector whose official model stores a map of the scale 4 that it does not use."""
    sizes = (32, 64, 96)
    branches = [tiny_vit(image_size=size, class_token=False, layer_scale=1.0) for size in sizes]
    backbone = BackboneConfig(pyramid=tiny_pyramid(*branches), levels=simple_pyramid(2, 1, 0.5))
    transformer = TransformerConfig(num_levels=4, mlp_dim=64, encoder_layers=1, decoder_layers=2)
    return tiny_dino(backbone=backbone, transformer=transformer)


def segmenter() -> UperNetConfig:
    """One that counts batches: integers among its tensors."""
    branches = [tiny_vit(image_size=size, class_token=False, layer_scale=1.0) for size in (64, 96)]
    return tiny_segmenter(backbone=BackboneConfig(pyramid=tiny_pyramid(*branches)))


CONFIGS = {"classifier": classifier, "beit": with_beit, "convnext": with_convnext, "dino": dino, "segmenter": segmenter}


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {name: ModelCard(name=name, task="", summary="", config=config) for name, config in CONFIGS.items()}
    monkeypatch.setattr(cards, "_CARDS", table)


def checkpoint(name: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Random tensors for everything that the official model stores, and the type of one that is not like the others."""
    tensors = official.official_state_dict(CONFIGS[name]().build())
    generator = torch.Generator().manual_seed(0)
    filled = {
        name: torch.randn(tensor.shape, generator=generator).to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    first = next(iter(filled))
    return filled | {first: filled[first].half()}


def assert_same(result: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert set(result) == set(expected)
    for name, tensor in expected.items():
        assert result[name].dtype == tensor.dtype
        assert torch.equal(result[name].view(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ours", ["model", "weights.safetensors"])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_there_and_back(piip: Any, tmp_path: Path, name: str, ours: str, dtype: torch.dtype) -> None:
    tensors = checkpoint(name, dtype)
    torch.save({"state_dict": tensors, "meta": {"epoch": 12}}, tmp_path / "official.pth")
    there = piip("convert", tmp_path / "official.pth", "--model", name, "--out", tmp_path / ours)
    assert there.status == 0, there.err
    written = load_file(tmp_path / ours / WEIGHTS_NAME if ours == "model" else tmp_path / ours)
    assert any(key.startswith(UNUSED_PREFIX) for key in written) is (name in ("beit", "convnext", "dino"))
    back = piip("convert", tmp_path / ours, "--model", name, "--reverse", "--out", tmp_path / "back.pth")
    assert back.status == 0, back.err
    assert_same(torch.load(tmp_path / "back.pth", weights_only=True), tensors)


def test_the_folder_is_a_model(piip: Any, tmp_path: Path) -> None:
    torch.save(checkpoint("convnext"), tmp_path / "official.pth")
    assert piip("convert", tmp_path / "official.pth", "--model", "convnext", "--out", tmp_path / "model").status == 0
    loaded, named = MaskRCNN.from_pretrained(tmp_path / "model"), create_model("convnext", tmp_path / "official.pth")
    assert loaded.config == named.config
    assert_same(loaded.state_dict(), named.state_dict())
    # What only the official model has goes no further than the files that were converted.
    loaded.save_pretrained(tmp_path / "saved")
    assert set(load_file(tmp_path / "saved" / "model.safetensors")) == set(loaded.state_dict())
    assert piip("convert", tmp_path / "model", "--reverse", "--out", tmp_path / "back.pth").status == 0
    assert_same(torch.load(tmp_path / "back.pth", weights_only=True), checkpoint("convnext"))


def test_ours_there_and_back(piip: Any, tmp_path: Path) -> None:
    trained = randomised(classifier().build())
    trained.save_pretrained(tmp_path / "trained", max_shard_size=100_000)
    assert len(list((tmp_path / "trained").glob("*.safetensors"))) > 2
    assert piip("convert", tmp_path / "trained", "--reverse", "--out", tmp_path / "new" / "official.pth").status == 0
    assert_same(torch.load(tmp_path / "new" / "official.pth"), official.official_state_dict(trained))
    out = tmp_path / "weights.safetensors"
    converted = piip("convert", tmp_path / "new" / "official.pth", "--model", tmp_path / "trained", "--out", out)
    assert converted.status == 0
    assert_same(load_file(out), trained.state_dict())


def test_variants_keep_their_configuration(piip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = dataclasses.replace(classifier(), pyramid=tiny_pyramid())
    card = ModelCard(name="variable", task="", summary="", config=lambda: usual, variants=(classifier,))
    monkeypatch.setattr(cards, "_CARDS", {"variable": card})
    torch.save(checkpoint("classifier"), tmp_path / "official.pth")
    assert piip("convert", tmp_path / "official.pth", "--model", "variable", "--out", tmp_path / "model").status == 0
    assert create_model(tmp_path / "model").config == classifier()


def test_what_the_official_code_has_not(piip: Any, tmp_path: Path) -> None:
    config = dataclasses.replace(classifier(), head=SeparateHeadsConfig(num_classes=3, reads="mean"))
    config.build().save_pretrained(tmp_path / "model")
    result = piip("convert", tmp_path / "model", "--reverse", "--out", tmp_path / "official.pth")
    assert result.status == 2
    assert "the official code has no such model" in result.err
    assert not (tmp_path / "official.pth").exists()


def test_a_model_is_not_replaced(piip: Any, tmp_path: Path) -> None:
    torch.save(checkpoint("classifier"), tmp_path / "official.pth")
    arguments = ("convert", tmp_path / "official.pth", "--model", "classifier", "--out", tmp_path / "model")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes.txt").touch()
    assert piip(*arguments).status == 0  # what else is in the folder is in nobody's way
    written = (tmp_path / "model" / WEIGHTS_NAME).read_bytes()
    torch.save(checkpoint("classifier", torch.bfloat16), tmp_path / "official.pth")
    for gone in ("none", "config.json"):
        (tmp_path / "model" / gone).unlink(missing_ok=True)
        result = piip(*arguments)
        assert result.status == 2
        assert f"--out: there is a model at '{tmp_path / 'model'}' already; name another place" in result.err
        assert (tmp_path / "model" / WEIGHTS_NAME).read_bytes() == written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("official.pth --out model", "--model: official.pth does not tell what it is of"),
        ("official.pth --model beet --out model", "there is no 'beet'; did you mean 'beit'?"),
        ("official.pth --model beit --out model", "official.pth: the state dict does not fit the model"),
        ("nothing.pth --model classifier --out model", "nothing.pth: there is no such file"),
        ("ours.safetensors --model classifier --out model", "ours already; --reverse turns it into an official"),
        ("official.pth --model classifier --reverse --out back.pth", "leave --reverse out"),
        ("ours.safetensors --model classifier --reverse --out back.safetensors", "official checkpoints are .pth"),
        (". --model classifier --out model", "FILE: the folder . has no model.safetensors; name a checkpoint"),
        (". --model classifier --reverse --out back.pth", "FILE: the folder . has no model.safetensors"),
        ("picture.pth --model classifier --out model", "picture.pth: is no PyTorch file, or is broken: it begins with"),
        ("ours.safetensors --model classifier --reverse --out back.npz", "will be no .npz file; official checkpoints"),
        ("official.pth --model classifier --out official.pth", "--out: 'official.pth' is a file; name a folder"),
        ("official.pth --model classifier --out ours.safetensors", "--out: there is a file at 'ours.safetensors'"),
        (
            "ours.safetensors --model classifier --reverse --out official.pth",
            "there is a file at 'official.pth' already",
        ),
        *(
            pytest.param(
                f"{arguments} --out /proc/q{suffix}", "the folder '/proc' cannot be written to", marks=HAS_PROC
            )
            for arguments, suffix in (
                ("official.pth --model classifier", ""),
                ("official.pth --model classifier", ".safetensors"),
                ("ours.safetensors --model classifier --reverse", ".pth"),
            )
        ),
        ("ours.safetensors --model classifier --reverse --out .", "--out: '.' is a folder or a device; name a file"),
    ],
)
def test_mistakes(piip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(checkpoint("classifier"), "official.pth")
    save_file(classifier().build().state_dict(), "ours.safetensors")
    Path("picture.pth").write_bytes(b"\x89PNG\r\n")
    before = sorted(tmp_path.rglob("*"))
    result = piip("convert", *arguments.split())
    assert (result.status, result.out) == (2, "")
    assert message in result.err
    assert sorted(tmp_path.rglob("*")) == before
