"""The weights of a folder, in one file or several."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import piip.files
import piip.weights
from piip.weights import INDEX_NAME, UNUSED_PREFIX, WEIGHTS_NAME, WeightsError, load_into, read_weights, save_weights

SMALL, LARGE = 1000, 10**9  # in three files, in one


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piip.files, "flush", lambda _: None)
    monkeypatch.setattr(piip.weights, "flush", lambda _: None)


def tensors(value: float = 0.0) -> dict[str, Tensor]:
    """Six tensors of 400 bytes."""
    return {f"layer{number}.weight": torch.full((100,), value + number) for number in range(6)}


def assert_holds(folder: Path, expected: dict[str, Tensor]) -> None:
    found = read_weights(folder)
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def shards(folder: Path) -> set[str]:
    return set(json.loads((folder / INDEX_NAME).read_text())["weight_map"].values())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_in_several_files(tmp_path: Path) -> None:
    save_weights(tensors(), tmp_path, SMALL)
    assert len(shards(tmp_path)) == 3
    assert names(tmp_path) == shards(tmp_path) | {INDEX_NAME}
    assert [set(load_file(tmp_path / name)) for name in sorted(shards(tmp_path))] == [
        {f"layer{first}.weight", f"layer{first + 1}.weight"} for first in (0, 2, 4)
    ]
    assert json.loads((tmp_path / INDEX_NAME).read_text())["metadata"] == {"total_size": 2400}
    assert_holds(tmp_path, tensors())


def test_saving_again_leaves_nothing_of_the_last_model(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    for value, size in enumerate((SMALL, 1500, LARGE, LARGE, SMALL)):
        save_weights(tensors(value), tmp_path, size)
        assert_holds(tmp_path, tensors(value))
        own = {WEIGHTS_NAME} if size == LARGE else shards(tmp_path) | {INDEX_NAME}
        assert names(tmp_path) == own | {"README.md"}


class Killed(BaseException):
    """Ends a process at once."""


@pytest.mark.parametrize("first", [SMALL, LARGE])
@pytest.mark.parametrize("second", [SMALL, LARGE])
def test_saving_that_is_killed_at_any_moment(
    tmp_path: Path, first: int, second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever file operation is the last one: what is read is of one of the two calls, never a mixture."""
    found, finished = [], False
    while not finished:
        folder = tmp_path / str(len(found))
        folder.mkdir()
        save_weights(tensors(0), folder, first)
        with monkeypatch.context() as patch:
            _kill_after(patch, len(found))
            try:
                save_weights(tensors(10), folder, second)
                finished = True
            except Killed:
                pass
        found.append(int(read_weights(folder)["layer0.weight"][0]))
        assert_holds(folder, tensors(found[-1]))
        save_weights(tensors(20), folder, second)  # clears away what is left
        assert names(folder) == ({WEIGHTS_NAME} if second == LARGE else shards(folder) | {INDEX_NAME})
        assert_holds(folder, tensors(20))
    assert found == sorted(found)  # there is one moment at which the new one counts
    assert found[0] == 0
    assert found[-1] == 10
    assert len(found) >= 3


def _kill_after(patch: pytest.MonkeyPatch, operations: int) -> None:
    """Let the process end before a file operation, so that nothing is cleared away after it."""
    left = [operations]

    def limited(operation: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if left[0] <= 0:
                raise Killed
            left[0] -= 1
            return operation(*arguments, **options)

        return call

    patch.setattr(Path, "replace", limited(Path.replace))
    patch.setattr(Path, "unlink", limited(Path.unlink))
    patch.setattr(piip.weights, "save_file", limited(piip.weights.save_file))


def test_saving_that_fails_clears_away_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_weights(tensors(0), tmp_path, SMALL)
    before = names(tmp_path)
    written: list[Path] = []

    def full(content: Any, path: Path) -> None:
        path.write_bytes(b"half")
        written.append(path)
        if len(written) == 3:
            raise OSError("No space left on device")

    monkeypatch.setattr(piip.weights, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_weights(tensors(10), tmp_path, SMALL)
    assert names(tmp_path) == before
    assert_holds(tmp_path, tensors(0))


def test_a_file_of_another_save(tmp_path: Path) -> None:
    save_weights(tensors(), tmp_path, SMALL)
    first, second, _ = sorted(shards(tmp_path))
    (tmp_path / first).write_bytes((tmp_path / second).read_bytes())
    with pytest.raises(WeightsError, match=rf"{first}: does not hold the tensors that model\.safetensors\.index\.json"):
        read_weights(tmp_path)
    (tmp_path / first).write_bytes(b"half")
    with pytest.raises(WeightsError, match=f"{first}: cannot be read as safetensors"):
        read_weights(tmp_path)
    (tmp_path / first).unlink()
    with pytest.raises(WeightsError, match=f"{first}: there is no such file"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "has no weight_map"),
        ('{"weight_map": {}}', "has no weight_map"),
        ('{"weight_map": {"a": "../b.safetensors"}}', "not the name of a .safetensors file beside the index"),
        ('{"weight_map": {"a": "/b.safetensors"}}', "not the name of a .safetensors file beside the index"),
        ('{"weight_map": {"a": "b.bin"}}', "not the name of a .safetensors file beside the index"),
        ('{"weight_map": {"a": 3}}', "not the name of a .safetensors file beside the index"),
        ('{"weight_map": {"a": "b.safetensors"}}', "b.safetensors: there is no such file"),
    ],
)
def test_a_broken_index(tmp_path: Path, index: str, message: str) -> None:
    (tmp_path / INDEX_NAME).write_text(index)
    with pytest.raises(WeightsError, match=message):
        read_weights(tmp_path)


def test_tensors_that_share_memory(tmp_path: Path) -> None:
    flat = torch.arange(6.0)
    shared = {"all": flat, "again": flat, "first": flat[:3], "rest": flat[3:], "turned": flat.view(2, 3).T}
    save_weights(shared, tmp_path)
    assert_holds(tmp_path, shared)


def test_what_only_the_official_model_has_is_left_out(tmp_path: Path) -> None:
    model = nn.Linear(2, 3)
    extra = {f"{UNUSED_PREFIX}norm.weight": torch.ones(5)}
    load_into(model, {"weight": torch.ones(3, 2), "bias": torch.ones(3)} | extra, tmp_path)
    assert torch.equal(model.weight, torch.ones(3, 2))
    with pytest.raises(
        WeightsError, match=r"1 missing: 'bias'; 1 not expected: 'norm'; 1 of another shape: 'weight is"
    ):
        load_into(model, {"weight": torch.zeros(2), "norm": torch.ones(5)} | extra, tmp_path)
    assert torch.equal(model.weight, torch.ones(3, 2))
