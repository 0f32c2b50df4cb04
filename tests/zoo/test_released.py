"""The released weights, from a hub on this machine."""

import dataclasses
import io
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants, hf_hub_download
from safetensors.torch import load_file
from torch import Tensor

from hub_server import Hub, environment
from piip import (
    BackboneConfig,
    ClassificationConfig,
    ClassificationModel,
    MaskRCNNConfig,
    SeparateHeadsConfig,
    create_model,
    official,
)
from piip.weights import WeightsError
from piip.zoo import cards
from piip.zoo.cards import ModelCard
from piip.zoo.cards.card import REPOSITORY
from piip.zoo.released import released_weights
from tiny_detector import tiny_detector
from tiny_models import images, randomised, tiny_pyramid, tiny_vit

NAME = "piip_tiny"
FILE = f"classification/{NAME}.pth"


def tiny_classifier() -> ClassificationConfig:
    """One that the official code has."""
    branches = [tiny_vit(embed_dim=64, layer_scale=1.0), tiny_vit(image_size=48, layer_scale=1.0)]
    head = SeparateHeadsConfig(num_classes=3, reads="first_patch")
    return ClassificationConfig(pyramid=tiny_pyramid(*branches), head=head, class_names=("a", "b", "c"))


def official_detector() -> MaskRCNNConfig:
    """One that the official code has."""
    branches = [tiny_vit(image_size=size, class_token=False, layer_scale=1.0) for size in (64, 96)]
    return tiny_detector(backbone=BackboneConfig(pyramid=tiny_pyramid(*branches)))


CARDS = {
    card.name: card
    for card in (
        ModelCard(name=NAME, task="classification", summary="", config=tiny_classifier),
        ModelCard(name="mask_rcnn_tiny", task="detection", summary="", config=official_detector),
        ModelCard(name="piip_unreleased", task="classification", summary="", config=tiny_classifier, released=False),
    )
}


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModelCard]:
    """Cards of tiny models instead of the released ones."""
    table = dict(CARDS)
    monkeypatch.setattr(cards, "_CARDS", table)
    return table


@pytest.fixture(scope="module")
def trained() -> ClassificationModel:
    return randomised(tiny_classifier().build()).eval()


@torch.no_grad()
def logits(model: ClassificationModel) -> Tensor:
    return model(images(2, 3, 48, 48))["logits"]


def checkpoint(model: Any, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    return {name: tensor.to(dtype) for name, tensor in official.official_state_dict(model).items()}


def as_bytes(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def upload(hub: Hub, content: Any, file: str = FILE) -> None:
    hub.upload(REPOSITORY, **{file: content if isinstance(content, bytes) else as_bytes(content)})


def converted(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "hf" / "assets").rglob("*.safetensors"))


@pytest.fixture
def released(hub: Hub, trained: ClassificationModel) -> Hub:
    """A hub with the checkpoint of the tiny classifier."""
    upload(hub, checkpoint(trained))
    return hub


def test_fetched_converted_and_kept(released: Hub, trained: ClassificationModel, tmp_path: Path) -> None:
    model = create_model(NAME, "official")
    assert not model.training
    assert torch.equal(logits(model), logits(trained))
    assert len(released.downloads) == 1
    (kept,) = converted(tmp_path)
    assert set(load_file(kept)) == set(trained.state_dict())

    written = kept.stat().st_mtime_ns
    assert torch.equal(logits(create_model(NAME, "official")), logits(trained))
    assert len(released.downloads) == 1
    assert kept.stat().st_mtime_ns == written


def test_detectors(hub: Hub) -> None:
    trained = randomised(official_detector().build())
    upload(hub, {"state_dict": checkpoint(trained), "meta": {"epoch": 12}}, "detection/mask_rcnn_tiny.pth")
    model = create_model("mask_rcnn_tiny", "official")
    assert all(torch.equal(tensor, trained.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_other_classes(released: Hub, trained: ClassificationModel) -> None:
    model = create_model(NAME, "official", num_classes=5)
    assert logits(model).shape == (2, 5)
    assert model.config.class_names == ()
    own = trained.state_dict()
    new = set(model.class_tensors)
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items() if name not in new)
    assert torch.equal(logits(create_model(NAME, "official", num_classes=3)), logits(trained))


def test_a_new_upload_is_taken(released: Hub, trained: ClassificationModel, tmp_path: Path) -> None:
    create_model(NAME, "official")
    better = randomised(tiny_classifier().build(), seed=7).eval()
    upload(released, checkpoint(better))
    assert torch.equal(logits(create_model(NAME, "official")), logits(better))
    assert len(converted(tmp_path)) == 1


def test_what_takes_the_place_of_what_is_kept(
    released: Hub, table: dict[str, ModelCard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_model(NAME, "official")
    (earlier,) = converted(tmp_path)
    later = earlier.with_name(earlier.name.replace(f"{NAME}-1-", f"{NAME}-3-"))
    longer, other = f"{NAME}-1-tiny", f"{NAME}_2"
    others = [earlier.with_name(f"{name}-1-{'0' * 16}.safetensors") for name in (longer, other)]
    for path in (later, *others, earlier.with_name(f".{earlier.stem}.tmp.safetensors")):
        path.write_bytes(b"kept")

    monkeypatch.setattr("piip.zoo.released._ADAPTERS", 2)
    create_model(NAME, "official")
    new = earlier.with_name(earlier.name.replace(f"{NAME}-1-", f"{NAME}-2-"))
    assert converted(tmp_path) == sorted([new, later, *others])


def test_an_upload_that_another_process_takes_at_the_same_time(
    released: Hub, trained: ClassificationModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    better = randomised(tiny_classifier().build(), seed=7).eval()
    create_model(NAME, "official")
    (kept,) = converted(tmp_path)

    def interrupted(*arguments: Any) -> Any:
        monkeypatch.setattr("piip.zoo.load.released_weights", released_weights)
        found = released_weights(*arguments)
        upload(released, checkpoint(better))
        assert torch.equal(logits(create_model(NAME, "official")), logits(better))
        assert not kept.exists()
        return found

    monkeypatch.setattr("piip.zoo.load.released_weights", interrupted)
    assert torch.equal(logits(create_model(NAME, "official")), logits(trained))


def test_an_upload_of_something_else_changes_nothing(released: Hub, tmp_path: Path) -> None:
    create_model(NAME, "official")
    released.upload(REPOSITORY, README=b"new")
    create_model(NAME, "official")
    assert len(converted(tmp_path)) == 1


@pytest.mark.parametrize("damage", [b"", b"half", None])
def test_what_is_kept_is_made_again_where_it_does_not_fit(
    released: Hub, trained: ClassificationModel, tmp_path: Path, damage: bytes | None
) -> None:
    create_model(NAME, "official")
    (kept,) = converted(tmp_path)
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-10] if damage is None else damage)
    assert torch.equal(logits(create_model(NAME, "official")), logits(trained))
    assert kept.read_bytes() == whole


def test_bf16_stays_bf16_where_it_is_kept(hub: Hub, trained: ClassificationModel, tmp_path: Path) -> None:
    upload(hub, checkpoint(trained, torch.bfloat16))
    model = create_model(NAME, "official")
    (kept,) = converted(tmp_path)
    assert {tensor.dtype for tensor in load_file(kept).values()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    expected = {name: tensor.bfloat16().float() for name, tensor in trained.state_dict().items()}
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def wrapped(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """A checkpoint as each kind of training script writes it; the other tensors in it are not to be taken."""
    others = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    numbers = {"score": np.float64(48.2), "count": np.int64(7), "flag": np.bool_(True), "single": np.float32(1)}
    adam = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]}
    meta = {"mmcv_version": "1.7.0", "hook_msgs": numbers, "CLASSES": ("cat", "dog"), "PALETTE": [(1, 2, 3)]}
    shapes = [{name: tensor.shape for name, tensor in tensors.items()}]
    return {
        "bare": tensors,
        "distributed": {f"module.{name}": tensor for name, tensor in tensors.items()},
        "mmcv": {"meta": meta, "state_dict": tensors, "optimizer": adam},
        "mmcv distributed": {"meta": meta, "state_dict": {f"module.{name}": t for name, t in tensors.items()}},
        "mmcv ema": {"state_dict": tensors | {f"ema_{name.replace('.', '_')}": t for name, t in others.items()}},
        "deit": {"model": tensors, "args": Namespace(lr=5e-4, data=["x"]), "epoch": 299, "optimizer": adam},
        "deit ema": {"model_ema": others, "model": tensors, "scaler": {"scale": 65536.0}},
        "deepspeed": {
            "module": tensors,
            "param_shapes": shapes,
            "buffer_names": [],
            "sparse_tensor_module_names": set(),
            "ds_config": {"zero_optimization": {"stage": 1}, "bf16": {"enabled": True}},
            "ds_version": "0.12.0",
            "optimizer": None,
            "mp_world_size": 1,
            "meta": meta,
        },
    }


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapper", list(wrapped({})))
def test_wrappers(hub: Hub, trained: ClassificationModel, wrapper: str, legacy: bool) -> None:
    content = wrapped(checkpoint(trained))[wrapper]
    upload(hub, as_bytes(content, _use_new_zipfile_serialization=not legacy))
    assert torch.equal(logits(create_model(NAME, "official")), logits(trained))


def test_a_download_that_is_interrupted_goes_on(
    hub: Hub, trained: ClassificationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)  # what is lost at most
    content = as_bytes(checkpoint(trained))
    upload(hub, content)
    hub.drop_after = [100 * 1024]
    assert torch.equal(logits(create_model(NAME, "official")), logits(trained))
    assert hub.downloads == [None, f"bytes={100 * 1024}-"]


def test_a_wrong_checksum(released: Hub, trained: ClassificationModel, tmp_path: Path) -> None:
    whole = released.files[REPOSITORY][FILE]
    middle = len(whole) // 2
    released.served[FILE] = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    with pytest.raises(WeightsError, match=r"tiny\.pth: cannot be fetched, try again .*damaged, its SHA-256 is "):
        create_model(NAME, "official")
    assert converted(tmp_path) == []
    released.served.clear()
    assert torch.equal(logits(create_model(NAME, "official")), logits(trained))


def test_a_file_that_was_damaged_after_it_was_fetched(
    released: Hub, trained: ClassificationModel, tmp_path: Path
) -> None:
    path = Path(hf_hub_download(REPOSITORY, FILE))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        WeightsError, match=r"tiny\.pth: is damaged: its SHA-256 is \w+, and the hub's is \w+; it is del"
    ):
        create_model(NAME, "official")
    assert not path.exists()
    assert converted(tmp_path) == []
    assert torch.equal(logits(create_model(NAME, "official")), logits(trained))


def test_a_file_of_another_size_than_the_hub_says(released: Hub, tmp_path: Path) -> None:
    released.served[FILE] = released.files[REPOSITORY][FILE][:-100]
    with pytest.raises(WeightsError, match=r"cannot be fetched, try again \(OSError: .* should be of size"):
        create_model(NAME, "official")
    released.served.clear()
    create_model(NAME, "official")


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><p>Sign in</p>" * 99, b"<html>", b"\x00" * 2000])
def test_a_file_that_is_no_checkpoint(hub: Hub, content: bytes, tmp_path: Path) -> None:
    upload(hub, content)
    with pytest.raises(WeightsError, match=r"piip_tiny\.pth: .*broken"):
        create_model(NAME, "official")
    assert converted(tmp_path) == []


def test_a_truncated_upload(hub: Hub, trained: ClassificationModel, tmp_path: Path) -> None:
    upload(hub, as_bytes(checkpoint(trained))[:-5000])
    with pytest.raises(WeightsError, match=r"piip_tiny\.pth: .*broken"):
        create_model(NAME, "official")
    assert converted(tmp_path) == []


def test_a_checkpoint_of_another_model(hub: Hub, tmp_path: Path) -> None:
    upload(hub, checkpoint(randomised(official_detector().build())))
    with pytest.raises(WeightsError, match=r"tiny\.pth: the state dict does not fit the model\n +missing \(\d+\):"):
        create_model(NAME, "official")
    assert converted(tmp_path) == []


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_checkpoint(hub: Hub, trained: ClassificationModel, tmp_path: Path, legacy: bool) -> None:
    victim = tmp_path / "executed"
    content = {"state_dict": checkpoint(trained), "meta": {"seed": Hostile(victim)}}
    upload(hub, as_bytes(content, _use_new_zipfile_serialization=not legacy))
    with pytest.raises(WeightsError, match=r"piip_tiny\.pth: refused, and nothing in it executed"):
        create_model(NAME, "official")
    assert not victim.exists()
    assert converted(tmp_path) == []
    torch.load(io.BytesIO(hub.files[REPOSITORY][FILE]), weights_only=False)
    assert victim.exists()  # it would have worked


def test_offline_with_what_was_kept(
    released: Hub, trained: ClassificationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_model(NAME, "official")
    asked = len(released.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(logits(create_model(NAME, "official")), logits(trained))
    assert len(released.requests) == asked


def test_offline_without(released: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError) as caught:
        create_model(NAME, "official")
    message = str(caught.value)
    assert "is not in the cache" in message
    assert "HF_HUB_OFFLINE forbids to fetch it" in message
    assert f"Fetch {released.endpoint}/OpenGVLab/PIIP/resolve/main/{FILE} in another way" in message
    assert message.endswith(f"name the file: --weights {NAME}.pth")
    assert released.requests == []


def test_a_hub_that_is_away(released: Hub, trained: ClassificationModel, monkeypatch: pytest.MonkeyPatch) -> None:
    create_model(NAME, "official")
    nowhere = "http://127.0.0.1:9"  # where nothing listens
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", nowhere + "/{repo_id}/resolve/{revision}/{filename}")
    assert torch.equal(logits(create_model(NAME, "official")), logits(trained))


def test_something_else_than_a_hub(hub: Hub) -> None:
    hub.answer = 200, b"<html>Welcome to this network</html>"
    with pytest.raises(WeightsError, match=r"cannot be fetched, try again \(.*missing the 'X-Repo-Commit' header"):
        create_model(NAME, "official")


def test_a_file_that_the_hub_does_not_have(hub: Hub) -> None:
    with pytest.raises(WeightsError, match=r"piip_tiny\.pth: the hub does not have it.*RepositoryNotFoundError"):
        create_model(NAME, "official")
    hub.upload(REPOSITORY, README=b"text")
    with pytest.raises(WeightsError, match=r"piip_tiny\.pth: the hub does not have it.*EntryNotFoundError"):
        create_model(NAME, "official")


def test_models_without_released_weights(hub: Hub) -> None:
    with pytest.raises(WeightsError, match="weights: the official release has none for piip_unreleased"):
        create_model("piip_unreleased", "official")
    assert hub.requests == []


def test_the_variant_that_fits(
    released: Hub, table: dict[str, ModelCard], trained: ClassificationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = dataclasses.replace(trained.config, pyramid=tiny_pyramid())
    table[NAME] = dataclasses.replace(table[NAME], config=lambda: usual, variants=(tiny_classifier,))
    for _ in range(2):  # converted, and kept
        assert torch.equal(logits(create_model(NAME, "official")), logits(trained))


def test_tensors_that_share_memory(hub: Hub, trained: ClassificationModel) -> None:
    tensors = checkpoint(trained)
    flat = torch.cat([tensor.flatten() for tensor in tensors.values()])
    views = flat.split([tensor.numel() for tensor in tensors.values()])
    shared = {name: view.view(tensors[name].shape) for name, view in zip(tensors, views, strict=True)}
    upload(hub, {"module": shared})
    assert torch.equal(logits(create_model(NAME, "official")), logits(trained))


_SCRIPT = """
from piip import create_model
from piip.zoo import cards
from test_released import CARDS, NAME, logits
cards._CARDS = CARDS
print(logits(create_model(NAME, "official")).tolist())
"""


def run_script(hub: Hub, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Load the released weights in a process of its own."""
    command = [sys.executable, "-c", _SCRIPT]
    return subprocess.run(command, env=environment(hub, home) | more, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_environment_chooses_hub_and_cache(released: Hub, trained: ClassificationModel, tmp_path: Path) -> None:
    home = tmp_path / "home"
    online = run_script(released, home)
    assert online.stdout == f"{logits(trained).tolist()}\n", online.stderr
    assert len(released.downloads) == 1
    assert {path.name for path in home.iterdir()} >= {"assets", "hub"}

    again = run_script(released, home, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert again.stdout == online.stdout, again.stderr
    assert len(released.downloads) == 1
