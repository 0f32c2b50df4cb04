"""Finding the files of a split."""

import json
from pathlib import Path

import pytest

from piip.problems import DatasetError
from piip.tasks.detection.datasets import find_split


def test_layout_of_coco(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").touch()
    expected = tmp_path / "annotations" / "instances_val2017.json", tmp_path / "val2017"
    assert find_split(tmp_path, "val") == expected
    with pytest.raises(DatasetError, match=r"has no annotations/instances_train2017\.json"):
        find_split(tmp_path, "train")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "data.json"
    file.parent.mkdir()
    splits = {
        "train": {"annotations": "../a.json", "images": "images"},
        "val": {"annotations": "/elsewhere/b.json", "images": "/elsewhere"},
    }
    file.write_text(json.dumps(splits))
    assert find_split(file, "train") == (tmp_path / "deep" / ".." / "a.json", tmp_path / "deep" / "images")
    assert find_split(file, "val") == (Path("/elsewhere/b.json"), Path("/elsewhere"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"data\.json: there is no such file"),
        ("{", r"data\.json: cannot be read as JSON"),
        ("[]", r"data\.json: expected the splits of a dataset by name, got a list"),
        ("{}", r"data\.json: has no split 'val'; expected"),
        ('{"vall": {}}', r"data\.json: has no split 'val'; .*did you mean 'vall'"),
        ('{"images": [], "annotations": [], "categories": []}', r"has no split 'val'; expected .*\"images\": FOLDER"),
        ('{"val": "folder"}', r"data\.json: val: expected the fields of SplitFiles, got 'folder'"),
        ('{"val": {"annotations": "a.json"}}', r"data\.json: val\.images: is missing"),
        ('{"val": {"annotations": "a.json", "images": 3}}', r"data\.json: val\.images: expected Path, got 3"),
        ('{"val": {"annotations": "a.json", "image": "b"}}', r"val\.image: .*did you mean 'images'"),
    ],
)
def test_errors(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "data.json").write_text(content)
    with pytest.raises(DatasetError, match=message):
        find_split(tmp_path / "data.json", "val")
