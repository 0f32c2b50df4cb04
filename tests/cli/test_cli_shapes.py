"""`piip shapes`."""

from pathlib import Path
from typing import Any

from piip.config import read_json


def test_writes_the_dataset(piip: Any, tmp_path: Path) -> None:
    options = ("--num-train", 4, "--num-val", 2, "--num-classes", 2, "--image-size", 32)
    result = piip("shapes", tmp_path / "a" / "shapes", *options)
    assert result.status == 0
    assert "4 training and 2 held-out images" in result.out
    assert len(list((tmp_path / "a" / "shapes" / "train").glob("*/*.png"))) == 4
    assert len(list((tmp_path / "a" / "shapes" / "val").glob("*/*.png"))) == 2
    assert piip("shapes", tmp_path / "a" / "shapes", *options).status == 0  # it is there already

    result = piip("shapes", tmp_path / "a" / "shapes", *options, "--seed", 1)
    assert result.status == 2
    assert "holds another shapes dataset" in result.err


def test_writes_the_layout_of_coco(piip: Any, tmp_path: Path) -> None:
    for number, layout in enumerate((("--layout", "coco"), ("--layout=coco",))):
        out = tmp_path / str(number)
        assert piip("shapes", out, *layout, "--num-train", 3, "--num-val", 2).status == 0
        assert len(list((out / "train2017").glob("*.png"))) == 3
        objects = read_json(out / "annotations" / "instances_train2017.json")["annotations"]
        assert len(objects) > 3  # several in an image, by default
        assert piip("shapes", out, "--num-train", 3, "--num-val", 2, "--num-classes", 2).status == 2
    piip("shapes", tmp_path / "two", "--layout", "coco", "--num-train", 2, "--num-val", 1, "--num-classes", 2)
    assert len(read_json(tmp_path / "two" / "annotations" / "instances_val2017.json")["categories"]) == 2


def test_writes_the_layout_of_ade20k(piip: Any, tmp_path: Path) -> None:
    out = tmp_path / "shapes"
    result = piip("shapes", out, "--layout", "ade20k", "--num-train", 3, "--num-val", 2, "--num-classes", 4)
    assert result.status == 0
    assert len(list((out / "images" / "training").glob("*.png"))) == 3
    assert len(list((out / "annotations" / "validation").glob("*.png"))) == 2
    assert len(read_json(out / "dataset.json")["class_names"]) == 5


def test_errors(piip: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for arguments, message in (
        ((tmp_path / "new", "--num-train", 0), "num_train=0"),
        ((tmp_path / "new", "--num-classes", 99), "num_classes=99"),
        ((tmp_path / "new", "--max-objects", 2), "an image with one label needs one object"),
        ((tmp_path / "file",), "exists and is no shapes dataset"),
        ((tmp_path / "file" / "new",), "OUT: the folder"),
        ((tmp_path / "new", "--layout", "yolo"), "--layout"),
        ((tmp_path / "new", "--layout", "coco", "--num-val", 0), "num_val=0"),
        ((tmp_path / "new", "--layout", "ade20k", "--num-val", 0), "num_val=0"),
        ((), "OUT"),
    ):
        result = piip("shapes", *arguments)
        assert result.status == 2, arguments
        assert message in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
