"""`piip predict`."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from piip import ClassificationModel, MergedHeadConfig, create_model
from piip.cli.predict_command import _picture_names
from piip.images import find_images
from piip.tasks.classification.prediction import predict


def test_table_pictures_and_json(piip: Any, model: Path, data: Path, tmp_path: Path) -> None:
    images = data / "val"
    result = piip("predict", model, images, "--out", tmp_path / "out", "--json", tmp_path / "out" / "all.json")
    assert result.status == 0
    expected = dict(predict(ClassificationModel.from_pretrained(model), find_images([images])))
    assert len(expected) == 7
    written = json.loads((tmp_path / "out" / "all.json").read_text())
    assert list(written) == [str(path) for path in expected]
    for path, scores in expected.items():
        assert [(entry["label"], entry["name"]) for entry in written[str(path)]] == [(s.label, s.name) for s in scores]
        assert written[str(path)][0]["score"] == pytest.approx(scores[0].score, abs=1e-6)
    best = re.findall(r"│ +│? *(\w+) +│ +(\d+\.\d) %", result.out)
    assert len(best) == 21
    assert "7 pictures" in result.err
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert len(pictures) == 7
    assert Image.open(pictures[0]).height > 320  # the small image, enlarged, and its caption


def test_a_long_name_is_whole_in_80_columns(piip: Any, model: Path, data: Path, tmp_path: Path) -> None:
    image = tmp_path / ("long_" * 20) / "image.png"
    image.parent.mkdir()
    shutil.copy(find_images([data / "val"])[0], image)
    result = piip("predict", model, image, "--out", tmp_path / "out", width=80)
    first = [line.split("│")[1].strip() for line in result.out.splitlines() if line.startswith("│")]
    assert "".join(first) == str(image)
    assert result.err.startswith("1 picture: ")


def test_json_alone_on_standard_output(piip: Any, model: Path, data: Path) -> None:
    image = find_images([data / "val"])[0]
    result = piip("predict", model, image, "--json", "-", "--top", 2)
    ((path, scores),) = json.loads(result.out).items()
    assert path == str(image)
    assert len(scores) == 2
    assert result.err == ""


def test_some_classes_only(piip: Any, model: Path, data: Path) -> None:
    image = find_images([data / "val"])[0]
    (everything,) = json.loads(piip("predict", model, image, "--json", "-").out).values()
    result = piip("predict", model, image, "--json", "-", "--classes", "triangle", "circle")
    (scores,) = json.loads(result.out).values()
    assert [entry["label"] for entry in scores] == [entry["label"] for entry in everything if entry["label"] != 1]
    assert sorted(entry["name"] for entry in scores) == ["circle", "triangle"]
    assert sum(entry["score"] for entry in scores) < 1  # probabilities among all classes, as without


def test_random_weights_are_pointed_out(piip: Any, data: Path) -> None:
    result = piip("predict", "piip_demo_shapes_96-48-32", data / "val" / "circle")
    assert result.status == 0
    assert "this model's weights are random" in result.err


def test_weights_of_a_named_model(piip: Any, data: Path, tmp_path: Path) -> None:
    named = create_model("piip_demo_shapes_96-48-32")
    save_file(named.state_dict(), tmp_path / "weights.safetensors")
    image = find_images([data / "val"])[0]
    result = piip(
        "predict", named_model := "piip_demo_shapes_96-48-32", image, "--weights", tmp_path / "weights.safetensors"
    )
    assert (result.status, result.err) == (0, "")
    ((_, scores),) = predict(named, [image])
    assert scores[0].name.split(",")[0] in result.out
    result = piip("predict", named_model, image, "--weights", tmp_path / "nothing.pth")
    assert result.status == 2
    assert "nothing.pth" in result.err


def test_pictures_of_the_same_name_are_numbered() -> None:
    paths = ["a/x.jpg", "b/x.jpg", "c/a/x.png", "x.jpg", "x.png", "a/x.gif"]
    names = list(_picture_names([Path(path) for path in paths], Path("out")))
    assert names == ["a_x.png", "b_x.png", "a_x-2.png", "x.png", "x-2.png", "a_x-3.png"]


@given(
    st.lists(st.sampled_from(["x.jpg", "x.png", "x-2.jpg", "X.gif", "x-2-2.png", "a/x.jpg", "a_x.png"]), unique=True)
)
def test_no_picture_overwrites_another_or_an_image(paths: list[str]) -> None:
    names = [name.lower() for name in _picture_names([Path(path) for path in paths], Path())]
    assert len(set(names)) == len(paths)
    assert not set(names) & {path.lower() for path in paths if "/" not in path}


def test_pictures_beside_the_images(piip: Any, model: Path, data: Path, tmp_path: Path, monkeypatch: Any) -> None:
    image = find_images([data / "val"])[0]
    shutil.copy(image, tmp_path / "x.png")
    monkeypatch.chdir(tmp_path)
    assert piip("predict", model, "x.png", "--out", ".").status == 0
    assert (tmp_path / "x.png").read_bytes() == image.read_bytes()
    assert (tmp_path / "x-2.png").exists()


def test_what_cannot_be_read_is_left_out_and_told(piip: Any, model: Path, data: Path, tmp_path: Path) -> None:
    first, *_, last = find_images([data / "val"])
    broken = tmp_path / "broken [b].jpg"
    broken.write_bytes(first.read_bytes()[:300])
    result = piip("predict", model, first, broken, last, "--json", tmp_path / "all.json", "--out", tmp_path / "out")
    assert result.status == 1
    entries = json.loads((tmp_path / "all.json").read_text())
    assert list(entries) == [str(first), str(broken), str(last)]
    assert "cannot read image" in entries[str(broken)]["error"]
    assert isinstance(entries[str(last)], list)
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert str(broken) in result.err
    assert "1 of 3 images could not be read" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{model}", "IMAGE: none given"),
        ("{model} {tmp}/nothing.jpg", "nothing.jpg' does not exist"),
        ("{model} {tmp}/empty", "empty' holds no image file"),
        ("{model} {image} --device bad", "--device: 'bad' cannot be used"),
        ("{model} {image} --device meta", "--device: 'meta' cannot be used"),
        ("{model} {image} --device cuda:99", "--device: 'cuda:99' cannot be used"),
        ("{model} {image} --batch-size 0", "batch_size: must be at least 1, got 0"),
        ("{model} {image} --top 0", "top: must be at least 1, got 0"),
        ("{model} {image} --top -1", "top: must be at least 1, got -1"),
        ("{model} {image} --classes sqare", "--classes: the model has no class 'sqare'; did you mean 'square'?"),
        ("{model} {image} --threshold 0.5", "is a classifier, which has no use for it; leave it out"),
        ("{model} {image} --out {tmp}/text.jpg", "--out: the folder"),
        ("{model} {image} --out /proc/piip", "--out: the folder '/proc/piip' cannot be made"),
        ("{model} {image} --json {tmp}/empty", "empty' is a folder or a device"),
        ("{model} {image} --json {tmp}/text.jpg/x.json", "--json: the folder"),
        ("{model} {image} --weights w.pth", "a folder with weights of its own"),
        ("{tmp}/empty {image}", "has no config.json"),
        ("{tmp}/nothing {image}", "model: there is no"),
        ("{tmp}/broken {image}", "config.json.head.reads: expected one of"),
        ("{tmp}/alone {image}", "model.safetensors: there is no such file"),
        ("{tmp}/other {image}", "the weights do not fit the model: 4 of another shape"),
        ("{tmp}/features {image}", "head.num_classes: 0"),
        ("piip_demo_shapes_96-48-32 {image} --weights {model}/model.safetensors", "the weights do not fit the model"),
        ("piip_demo_shapes_96-48-32 {image} --weights {tmp}/text.jpg", "text.jpg"),
    ],
)
def test_errors(piip: Any, model: Path, data: Path, tmp_path: Path, arguments: str, message: str) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty").mkdir()
    config, weights = (model / "config.json").read_text(), (model / "model.safetensors").read_bytes()
    for name, text in (
        ("broken", config.replace('"mean"', '"man"')),
        ("alone", config),
        ("other", config.replace('"circle"', '"heart",\n"circle"').replace('"num_classes": 3', '"num_classes": 4')),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    (tmp_path / "other" / "model.safetensors").write_bytes(weights)
    if "features" in arguments:
        loaded = ClassificationModel.from_pretrained(model).config
        type(loaded)(pyramid=loaded.pyramid, head=MergedHeadConfig(num_classes=0)).build().save_pretrained(
            tmp_path / "features"
        )
    image = find_images([data / "val"])[0]
    result = piip("predict", *(part.format(model=model, tmp=tmp_path, image=image) for part in arguments.split()))
    assert result.status == 2
    assert result.out == ""
    assert message in result.err
