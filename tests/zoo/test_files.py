"""Reading files that others wrote."""

import os
import pickle
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from piip.weights import WeightsError
from piip.zoo.files import read_tensors

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b.weight": torch.ones(4)}


def save(path: Path, content: Any, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def assert_read(path: Path) -> None:
    tensors = read_tensors(path)
    assert set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ""])
def test_pytorch_files(suffix: str, legacy: bool, tmp_path: Path) -> None:
    assert_read(save(tmp_path / f"weights{suffix}", TENSORS, legacy))


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "module"])
def test_wrapped_state_dicts(wrapper: str, tmp_path: Path) -> None:
    content = {wrapper: TENSORS, "epoch": 300, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
    assert_read(save(tmp_path / "weights.pth", content))


@pytest.mark.parametrize("wrapper", [None, "model"])
def test_prefix_of_distributed_training(wrapper: str | None, tmp_path: Path) -> None:
    prefixed = {f"module.{name}": tensor for name, tensor in TENSORS.items()}
    assert_read(save(tmp_path / "weights.pth", prefixed if wrapper is None else {wrapper: prefixed}))
    save_file(prefixed, tmp_path / "weights.safetensors")
    assert_read(tmp_path / "weights.safetensors")


def test_a_prefix_of_some_names_stays(tmp_path: Path) -> None:
    some = {"module.a": TENSORS["a"], "b.weight": TENSORS["b.weight"]}
    assert set(read_tensors(save(tmp_path / "weights.pth", some))) == set(some)


def test_options_of_a_training_script_beside_the_tensors(tmp_path: Path) -> None:
    assert_read(save(tmp_path / "weights.pth", {"model": TENSORS, "args": Namespace(lr=0.1, data=["imagenet"])}))


def test_other_formats(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "weights.safetensors")
    assert_read(tmp_path / "weights.safetensors")
    np.savez(tmp_path / "weights.npz", **{name: tensor.numpy() for name, tensor in TENSORS.items()})
    assert_read(tmp_path / "weights.npz")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not list mapped files")
def test_pytorch_files_are_mapped_into_memory(tmp_path: Path) -> None:
    path = save(tmp_path / "weights.pth", TENSORS)
    tensors = read_tensors(path)
    assert str(path) in Path("/proc/self/maps").read_text()
    assert torch.equal(tensors["a"], TENSORS["a"])


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("legacy", [False, True])
def test_hostile_pickles_are_refused(legacy: bool, tmp_path: Path) -> None:
    victim = tmp_path / "executed"
    path = save(tmp_path / "weights.pth", {"model": TENSORS, "extra": Hostile(victim)}, legacy)
    with pytest.raises(WeightsError, match=r"weights\.pth: refused, and nothing in it executed") as error:
        read_tensors(path)
    assert legacy or "mkdir" in str(error.value)
    assert not victim.exists()
    torch.load(path, weights_only=False)
    assert victim.exists()  # it would have worked


def test_hostile_plain_pickles_are_refused(tmp_path: Path) -> None:
    victim, path = tmp_path / "executed", tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Hostile(victim), protocol=2))
    with pytest.raises(WeightsError, match="refused, and nothing in it executed"):
        read_tensors(path)
    assert not victim.exists()


def test_hostile_arrays_are_refused(tmp_path: Path) -> None:
    victim = tmp_path / "executed"
    np.savez(tmp_path / "weights.npz", array=np.array([Hostile(victim)], dtype=object))
    with pytest.raises(WeightsError, match=r"weights\.npz: is broken, or not what its suffix says"):
        read_tensors(tmp_path / "weights.npz")
    assert not victim.exists()


@pytest.mark.parametrize("suffix", [".pth", ".npz", ".safetensors"])
def test_missing_files(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"nowhere\{suffix}: there is no such file"):
        read_tensors(tmp_path / f"nowhere{suffix}")


@pytest.mark.parametrize("suffix", [".pth", ".npz", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"<!DOCTYPE html><p>Not found</p>", b"PK\x03\x04 and no more"])
def test_broken_files(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"weights\{suffix}: .*broken"):
        read_tensors(path)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\x00\x00", b"hello, world\n", b"<!DOCTYPE html>", b""])
def test_what_is_no_checkpoint_at_all_is_not_said_to_be_one(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as error:
        read_tensors(path)
    expected = f"is no PyTorch file, or is broken: it begins with {content!r}; name a checkpoint, or get it again"
    assert str(error.value) == f"{path}: {expected}"


@pytest.mark.parametrize("suffix", [".pth", ".npz", ".safetensors"])
def test_truncated_files(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    match suffix:
        case ".pth":
            save(path, TENSORS)
        case ".npz":
            np.savez(path, a=np.zeros(1000))
        case _:
            save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(WeightsError, match=rf"weights\{suffix}: .*broken"):
        read_tensors(path)


@pytest.mark.parametrize("suffix", [".pth", ".npz", ".safetensors"])
def test_folders(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.mkdir()
    with pytest.raises(WeightsError, match=rf"weights\{suffix}: cannot be read: "):
        read_tensors(path)


def test_files_without_a_state_dict(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"weights\.pth: holds a Tensor, where a state dict is expected"):
        read_tensors(save(tmp_path / "weights.pth", torch.ones(3)))
    with pytest.raises(WeightsError, match=r"weights\.pth: 'weights', 'epoch' are not tensors; a state dict is expect"):
        read_tensors(save(tmp_path / "weights.pth", {"weights": TENSORS, "epoch": 3}))
