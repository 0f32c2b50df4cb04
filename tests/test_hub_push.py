"""Models that are put into repositories of the hub."""

from pathlib import Path

import pytest
from huggingface_hub.errors import HfHubHTTPError

from hub_server import Hub
from piip import ClassificationModel
from test_hub import assert_equal, sharded
from tiny_detector import tiny_detector


def weights_of(files: dict[str, bytes]) -> list[bytes]:
    return sorted(content for path, content in files.items() if path.endswith(".safetensors"))


def test_push_to_hub(hub: Hub, tmp_path: Path) -> None:
    model = sharded(tmp_path)
    saved = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    commit = model.push_to_hub("owner/model", private=True, message="Ours", max_shard_size=100_000)
    assert commit == f"{hub.endpoint}/owner/model/commit/{hub.commits['owner/model']}"
    assert [(wanted["organization"], wanted["name"], wanted["visibility"]) for wanted in hub.created] == [
        ("owner", "model", "private")
    ]
    pushed = hub.files["owner/model"]
    assert len(pushed) == len(saved) + 1
    assert pushed["config.json"] == saved["config.json"]
    assert weights_of(pushed) == weights_of(saved)
    assert [message for message, _ in hub.log] == ["Ours"]
    assert_equal(ClassificationModel.from_pretrained("owner/model"), model)


def test_pushing_another_model_takes_its_place(hub: Hub, tmp_path: Path) -> None:
    sharded(tmp_path).push_to_hub("owner/model", max_shard_size=100_000)
    old = set(hub.files["owner/model"])
    others = {"README.md": b"Mine", "model_zoo/model.safetensors": b"another's", "model.safetensors.md": b"notes"}
    hub.upload("owner/model", **others)
    model = sharded(tmp_path, seed=7)
    model.push_to_hub("owner/model")
    assert len(hub.created) == 1
    (_, first), (_, second) = hub.log
    assert len(first) == len(old)
    assert second == {("deletedFile", file) for file in old - {"config.json", "README.md"}} | {
        ("lfsFile", "config.json"),
        ("lfsFile", "model.safetensors"),
    }
    assert hub.files["owner/model"].items() >= others.items()
    assert_equal(ClassificationModel.from_pretrained("owner/model"), model)


def test_pushing_to_a_branch(hub: Hub, tmp_path: Path) -> None:
    model = sharded(tmp_path)
    for _ in range(2):  # made, and there
        model.push_to_hub("owner/model", revision="v2")
    assert hub.branches == {"owner/model": {"v2"}}
    assert hub.requests.count(("POST", "/api/models/owner/model/commit/v2")) == 2
    page = hub.files["owner/model"]["README.md"].decode()
    assert 'from_pretrained("owner/model", revision="v2")' in page
    assert_equal(ClassificationModel.from_pretrained("owner/model", revision="v2"), model)


def test_pushing_to_the_usual_branch_by_its_name(hub: Hub, tmp_path: Path) -> None:
    sharded(tmp_path).push_to_hub("owner/model", revision="main")
    assert len(hub.log) == 1


@pytest.mark.parametrize("name", ["model", "", "/model", "owner/", "owner/model/more", "owner/my model", "owner/a..b"])
def test_names_of_no_repository(hub: Hub, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"owner/repository; got|Repo id must|Cannot have"):
        sharded(tmp_path).push_to_hub(name)
    assert hub.requests == []


def test_what_is_no_branch(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="revision: expected a branch; got 2"):
        sharded(tmp_path).push_to_hub("owner/model", revision=2)
    assert hub.requests == []


def test_the_page_is_of_the_model_that_was_pushed_last(hub: Hub, tmp_path: Path) -> None:
    sharded(tmp_path).push_to_hub("owner/model")
    tiny_detector().build().push_to_hub("owner/model")
    page = hub.files["owner/model"]["README.md"].decode()
    assert "pipeline_tag: object-detection" in page
    assert "piip.MaskRCNN.from_pretrained" in page


def test_a_page_without_the_line_that_it_was_made_is_kept(hub: Hub, tmp_path: Path) -> None:
    sharded(tmp_path).push_to_hub("owner/model")
    lines = hub.files["owner/model"]["README.md"].splitlines(keepends=True)
    (mark,) = [line for line in lines if line.startswith(b"<!--")]
    page = b"".join(line for line in lines if line != mark) + b"As " + mark
    hub.upload("owner/model", **{"README.md": page})
    tiny_detector().build().push_to_hub("owner/model")
    assert hub.files["owner/model"]["README.md"] == page


@pytest.mark.parametrize("exists", [True, False])
def test_a_refused_push(hub: Hub, tmp_path: Path, exists: bool) -> None:
    if exists:
        hub.upload("owner/model", README=b"text")
    hub.refusal = "You have no right to write to this repository"
    with pytest.raises(HfHubHTTPError, match=r"403 Forbidden[\s\S]*You have no right to write"):
        sharded(tmp_path).push_to_hub("owner/model")
    assert hub.log == []
