import json
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import piip.progress
import piip.shapes.dataset
from piip.shapes import (
    SHAPE_NAMES,
    ShapesConfig,
    draw_scene,
    split_indices,
    write_ade20k,
    write_coco,
    write_image_folder,
)
from piip.shapes.outlines import outline

SINGLE = ShapesConfig(num_classes=10, image_size=96)
CROWD = ShapesConfig(num_classes=10, image_size=160, min_objects=0, max_objects=9, min_size=0.1, max_size=0.6)


def equal(first, second):
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in vars(first))


def files_below(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("config", [SINGLE, CROWD])
def test_scenes_depend_on_seed_and_index_only(config):
    first = draw_scene(config, 5)
    draw_scene(config, 6)
    assert equal(first, draw_scene(config, 5))
    assert not equal(first, draw_scene(config, 6))
    assert not equal(first, draw_scene(replace(config, seed=1), 5))


def test_scenes_of_one_object_take_the_classes_in_turn():
    assert [draw_scene(SINGLE, index).labels.tolist() for index in range(12)] == [[i % 10] for i in range(12)]


@pytest.mark.parametrize("index", range(40))
def test_boxes_are_tight_around_masks_and_masks_do_not_meet(index):
    scene = draw_scene(CROWD, index)
    count = len(scene.labels)
    assert scene.image.shape == (160, 160, 3)
    assert scene.image.dtype == np.uint8
    assert scene.masks.shape == (count, 160, 160)
    assert scene.boxes.shape == (count, 4)
    assert scene.masks.sum(axis=0).max(initial=0) <= 1
    for mask, (x1, y1, x2, y2) in zip(scene.masks, scene.boxes.astype(int), strict=True):
        inside = mask[y1:y2, x1:x2]
        assert inside.sum() == mask.sum()
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_objects_overlap_and_hidden_ones_are_left_out():
    config = ShapesConfig(num_classes=2, image_size=96, min_objects=12, max_objects=12, min_size=0.6, max_size=1)
    counts = [len(draw_scene(config, index).labels) for index in range(10)]
    assert 1 <= min(counts) < 12


@pytest.mark.parametrize("light_on_dark", [True, False])
def test_objects_stand_out_from_what_is_behind_them(light_on_dark):
    for index in range(60):
        scene = draw_scene(replace(SINGLE, light_on_dark=light_on_dark), index)
        x1, y1, x2, y2 = scene.boxes[0].astype(int)
        window, mask = scene.image[y1:y2, x1:x2].astype(float), scene.masks[0, y1:y2, x1:x2]
        contrast = window[mask].mean(axis=0) - window[~mask].mean(axis=0)
        assert np.linalg.norm(contrast) > 40
        assert not light_on_dark or contrast.mean() > 40


@pytest.mark.parametrize("name", SHAPE_NAMES)
def test_outlines_fill_the_unit_circle(name):
    radii = np.linalg.norm(outline(name)[0], axis=1)
    assert radii.max() == pytest.approx(1)


def test_unknown_outline():
    with pytest.raises(ValueError, match=r"'blob'.*circle"):
        outline("blob")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_classes", 0),
        ("num_classes", 11),
        ("image_size", 8),
        ("max_objects", 0),
        ("min_objects", -1),
        ("min_size", 0.9),
        ("max_size", 1.1),
        ("max_rotation", -1.0),
        ("seed", -1),
    ],
)
def test_impossible_configurations_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}={value}"):
        ShapesConfig(**{field: value})


def test_splits_never_meet_and_grow_at_their_end():
    assert not set(split_indices("train", 1000)) & set(split_indices("val", 1000))
    assert list(split_indices("val", 20))[:10] == list(split_indices("val", 10))
    with pytest.raises(ValueError, match="scenes"):
        split_indices("train", 2_000_000_000)


def test_image_folder_holds_the_scenes_in_balanced_classes(tmp_path):
    config = ShapesConfig(num_classes=3, image_size=32)
    root = write_image_folder(tmp_path / "data" / "shapes", config, num_train=7, num_val=3)
    assert [path.name for path in root.parent.iterdir()] == ["shapes"]  # nothing temporary is left
    names = sorted(name for name in files_below(root) if name.endswith(".png"))
    assert names == [
        *("train/circle/00000.png", "train/circle/00003.png", "train/circle/00006.png"),
        *("train/square/00001.png", "train/square/00004.png"),
        *("train/triangle/00002.png", "train/triangle/00005.png"),
        *(name for name in names if name.startswith("val/")),
    ]
    assert len(names) == 10
    image = np.asarray(Image.open(root / "train/square/00004.png"))
    assert (image == draw_scene(config, 4).image).all()
    description = json.loads((root / "shapes.json").read_text())
    assert description["config"] == {**vars(config)}
    assert (description["num_train"], description["num_val"]) == (7, 3)


def test_a_finished_dataset_is_kept_and_another_folder_refused(tmp_path, monkeypatch):
    config = ShapesConfig(num_classes=2, image_size=32)
    root = tmp_path / "shapes"
    root.mkdir()  # an empty folder is fine
    write_image_folder(root, config, num_train=2, num_val=2)
    before = files_below(root)
    monkeypatch.setattr(piip.shapes.dataset, "draw_scene", lambda *_: pytest.fail("drawn again"))
    write_image_folder(root, config, num_train=2, num_val=2)
    with pytest.raises(FileExistsError, match=r"shapes' holds another shapes dataset"):
        write_image_folder(root, config, num_train=4, num_val=2)
    assert files_below(root) == before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").touch()
    with pytest.raises(FileExistsError, match=r"photos' exists"):
        write_image_folder(tmp_path / "photos", config, num_train=2, num_val=2)


def test_an_interrupted_dataset_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(config, index):
        if index == 3:
            raise KeyboardInterrupt
        return draw_scene(config, index)

    monkeypatch.setattr(piip.shapes.dataset, "draw_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_image_folder(tmp_path / "shapes", ShapesConfig(num_classes=2, image_size=32), num_train=9, num_val=2)
    assert not list(tmp_path.iterdir())


def test_what_makes_no_classification_dataset_is_refused(tmp_path):
    with pytest.raises(ValueError, match="max_objects=4"):
        write_image_folder(tmp_path / "a", ShapesConfig(max_objects=4), num_train=9, num_val=9)
    with pytest.raises(ValueError, match="num_val=5"):
        write_image_folder(tmp_path / "a", ShapesConfig(num_classes=6), num_train=9, num_val=5)


def test_coco_layout(tmp_path):
    root = write_coco(tmp_path / "coco", CROWD, num_train=3, num_val=2)
    files = files_below(root)
    assert sorted(files) == [
        "annotations/instances_train2017.json",
        "annotations/instances_val2017.json",
        "shapes.json",
        *(f"train2017/{number:012d}.png" for number in (1, 2, 3)),
        *(f"val2017/{number:012d}.png" for number in (1, 2)),
    ]
    for split, start, count in (("train", 0, 3), ("val", split_indices("val", 1)[0], 2)):
        data = json.loads(files[f"annotations/instances_{split}2017.json"])
        assert [category["name"] for category in data["categories"]] == list(SHAPE_NAMES)
        assert [image["id"] for image in data["images"]] == list(range(1, count + 1))
        assert [entry["id"] for entry in data["annotations"]] == list(range(1, len(data["annotations"]) + 1))
        for image in data["images"]:
            scene = draw_scene(CROWD, start + image["id"] - 1)
            pixels = np.asarray(Image.open(root / f"{split}2017" / image["file_name"]))
            assert (pixels == scene.image).all()
            assert (image["height"], image["width"]) == pixels.shape[:2]
            entries = [entry for entry in data["annotations"] if entry["image_id"] == image["id"]]
            assert [entry["category_id"] - 1 for entry in entries] == scene.labels.tolist()
            assert [entry["area"] for entry in entries] == scene.masks.sum(axis=(1, 2)).tolist()
    before = files_below(root)
    write_coco(root, CROWD, num_train=3, num_val=2)
    assert files_below(root) == before
    with pytest.raises(FileExistsError, match="another shapes dataset"):
        write_image_folder(root, SINGLE, num_train=20, num_val=20)
    with pytest.raises(ValueError, match="num_val=0"):
        write_coco(tmp_path / "none", CROWD, num_train=3, num_val=0)


def test_ade20k_layout(tmp_path):
    root = write_ade20k(tmp_path / "ade20k", CROWD, num_train=3, num_val=2)
    names = {"training": [f"shapes_train_{number:08d}.png" for number in (1, 2, 3)]}
    names["validation"] = [f"shapes_val_{number:08d}.png" for number in (1, 2)]
    assert sorted(files_below(root)) == sorted(
        ["dataset.json", "shapes.json"]
        + [f"{kind}/{split}/{name}" for kind in ("images", "annotations") for split in names for name in names[split]]
    )
    content = json.loads((root / "dataset.json").read_text())
    assert content["class_names"] == ["background", *SHAPE_NAMES]
    assert len(set(map(tuple, content["palette"]))) == 11
    assert (content["values"], content["ignored"]) == (list(range(1, 12)), [0])
    for split, start in (("training", 0), ("validation", split_indices("val", 1)[0])):
        for number, name in enumerate(names[split]):
            scene = draw_scene(CROWD, start + number)
            assert (np.asarray(Image.open(root / "images" / split / name)) == scene.image).all()
            mask = np.asarray(Image.open(root / "annotations" / split / name))
            assert ((mask == 1) == ~scene.masks.any(axis=0)).all()
            for label, own in zip(scene.labels, scene.masks, strict=True):
                assert (mask[own] == label + 2).all()
    before = files_below(root)
    write_ade20k(root, CROWD, num_train=3, num_val=2)
    assert files_below(root) == before
    with pytest.raises(FileExistsError, match="another shapes dataset"):
        write_coco(root, CROWD, num_train=3, num_val=2)
    with pytest.raises(ValueError, match="num_val=0"):
        write_ade20k(tmp_path / "none", CROWD, num_train=3, num_val=0)


def test_a_progress_bar_comes_only_with_what_takes_long(tmp_path, monkeypatch, capsys):
    config = ShapesConfig(num_classes=2, image_size=32)
    write_image_folder(tmp_path / "quick", config, num_train=2, num_val=2)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(piip.progress, "_SILENT_SECONDS", -1.0)
    write_image_folder(tmp_path / "slow", config, num_train=2, num_val=2)
    assert "drawing" in capsys.readouterr().err


def test_drawing_is_fast():
    config = ShapesConfig(image_size=128)
    draw_scene(config, 0)
    start = time.perf_counter()
    for index in range(50):
        draw_scene(config, index)
    assert 50 / (time.perf_counter() - start) > 50  # about 500 a second; the bar leaves room for a busy machine
