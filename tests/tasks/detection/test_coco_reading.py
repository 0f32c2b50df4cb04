"""Reading datasets in the format of COCO: good ones, and bad ones of every kind."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as pycoco

from coco_data import annotation, dataset, square, write
from piip.problems import DatasetError
from piip.rle import encode_rle
from piip.shapes import ShapesConfig, draw_scene, write_coco
from piip.tasks.detection.checks import Problem
from piip.tasks.detection.coco import coco_paths, read_coco


def test_a_dataset_is_grouped_by_image_and_labelled_in_the_order_of_ids(tmp_path):
    found = read_coco(*write(tmp_path, dataset()))
    assert found.class_names == ("cat", "dog", "zebra")
    assert found.category_ids == (3, 17, 90)
    assert found.image_ids.tolist() == [9, 4, 7]
    assert found.file_names == ("a.png", "b.png", "sub/c.png")
    assert found.sizes == ((48, 64), (64, 48), (48, 64))
    assert [found.objects(image).tolist() for image in range(3)] == [[0, 1, 2], [3, 4], []]
    assert found.labels.tolist() == [0, 1, 0, 2, 1]
    assert found.boxes[1].tolist() == [30, 10, 10.5, 20.25]
    assert found.areas[3] == 1200
    assert found.is_crowd.tolist() == [False, False, True, False, False]
    assert found.is_trained_on.tolist() == [True, True, False, True, True]
    assert found.has_mask.all()
    assert found.summary() == [f"{found.file}: 3 images, 5 objects of 3 classes, 5 masks"]


def test_names_tell_the_classes_of_a_model(tmp_path):
    paths = write(tmp_path, dataset())
    found = read_coco(*paths, class_names=("dog", "bird", "zebra", "cat"))
    assert found.class_names == ("dog", "bird", "zebra", "cat")
    assert found.category_ids == (17, None, 90, 3)
    assert found.labels.tolist() == [3, 0, 3, 2, 0]
    with pytest.raises(DatasetError, match=r"1 of 3 categories are none of the 2 classes.*'zebra'"):
        read_coco(*paths, class_names=("dog", "cat"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pycocotools with NumPy 2
def test_polygons_and_runs_are_drawn_as_by_pycocotools(tmp_path):
    data = dataset()
    generator = np.random.default_rng(0)
    polygons = [(generator.uniform(-5, 69, size=2 * corners)).round(1).tolist() for corners in (3, 5, 8)]
    mask = np.asarray(generator.random((48, 64)) < 0.5)
    runs = pycoco.encode(np.asfortranarray(mask.astype(np.uint8)))
    data["annotations"] = [
        annotation(1, 9, 3, [1, 1, 9, 9], segmentation=polygons),
        annotation(2, 9, 3, [1, 1, 9, 9], segmentation=encode_rle(mask)),
        annotation(3, 9, 3, [1, 1, 9, 9], segmentation={"size": [48, 64], "counts": [100, 72, 2900]}),
        annotation(4, 9, 3, [1, 1, 9, 9], segmentation=[[1, 2, 3, 4], *square(3.3, 4.7, 9.1)]),
    ]
    found = read_coco(*write(tmp_path, data))
    assert found.problems.lines() == []
    drawn = [found.mask(number, (48, 64)) for number in range(4)]
    assert (drawn[0] == pycoco.decode(pycoco.merge(pycoco.frPyObjects(polygons, 48, 64)))).all()
    assert (drawn[1] == pycoco.decode(runs)).all()
    assert (drawn[1] == mask).all()
    assert drawn[2].sum() == 72
    assert (drawn[3] == pycoco.decode(pycoco.frPyObjects(square(3.3, 4.7, 9.1), 48, 64))[..., 0]).all()
    assert all(part.dtype == bool for part in drawn)
    assert found.segmentation(0, (48, 64)) == polygons
    assert found.segmentation(2, (48, 64)) == {"size": [48, 64], "counts": [100, 72, 2900]}


def test_shapes_come_back_as_they_were_drawn(tmp_path):
    config = ShapesConfig(image_size=96, min_objects=0, max_objects=5, min_size=0.1)
    root = write_coco(tmp_path / "shapes", config, num_train=6, num_val=2)
    found = read_coco(*coco_paths(root, "train"))
    assert found.class_names == config.class_names
    assert found.problems.lines() == []
    for image in range(6):
        scene, numbers = draw_scene(config, image), found.objects(image)
        assert found.labels[numbers].tolist() == scene.labels.tolist()
        corners = found.boxes[numbers] + np.pad(found.boxes[numbers, :2], ((0, 0), (2, 0)))
        assert (corners == scene.boxes).all()
        assert found.areas[numbers].tolist() == scene.masks.sum(axis=(1, 2)).tolist()
        for number, mask in zip(numbers, scene.masks, strict=True):
            assert (found.mask(number, (96, 96)) == mask).all()
    assert len(read_coco(*coco_paths(root, "val"))) == 2


def test_what_is_pickled_for_a_worker_comes_back(tmp_path):
    found = read_coco(*write(tmp_path, dataset()))
    copy = pickle.loads(pickle.dumps(found))
    assert (copy.mask(1, (48, 64)) == found.mask(1, (48, 64))).all()


def problem(tmp_path, data):
    """Reads a dataset with one kind of problem."""
    found = read_coco(*write(tmp_path, data))
    ((kind, count),) = found.problems.counts.items()
    (line,) = found.problems.lines()
    return found, kind, count, line


def test_missing_files_are_left_out_with_their_objects(tmp_path):
    data = dataset()
    data["images"] += [{"id": 20 + n, "file_name": f"no/{n}.png", "width": 9, "height": 9} for n in range(5)]
    data["annotations"].append(annotation(6, 22, 3, [1, 1, 4, 4]))
    file, folder = write(tmp_path, data)
    for n in range(5):
        (folder / "no" / f"{n}.png").unlink()
    found = read_coco(file, folder)
    assert len(found) == 3
    assert len(found.labels) == 5
    assert found.problems.lines() == [
        "5 images whose file is missing ('no/0.png', 'no/1.png', 'no/2.png' and 2 more): left out"
    ]


@pytest.mark.parametrize(
    "entry",
    [
        "image",
        None,
        {"id": 11},
        {"file_name": "x.png", "height": 3, "width": 3},
        {"id": "11", "file_name": "x.png", "height": 3, "width": 3},
        {"id": 2**70, "file_name": "x.png", "height": 3, "width": 3},
        {"id": 11, "file_name": "", "height": 3, "width": 3},
        {"id": 11, "file_name": "x.png", "height": 0, "width": 3},
    ],
)
def test_unreadable_images_are_left_out(tmp_path, entry):
    data = dataset()
    data["images"].append(entry)
    found, kind, count, line = problem(tmp_path, data)
    assert (kind, count, len(found)) == (Problem.UNREADABLE_IMAGE, 1, 3)
    assert "images[3]" in line


def test_files_of_another_size_and_damaged_ones_are_left_out(tmp_path):
    data = dataset()
    write(tmp_path, data)
    data["images"][0]["width"] = 65
    (tmp_path / "images" / "b.png").write_bytes(b"no image")
    found, kind, count, line = problem(tmp_path, data)
    assert (kind, count) == (Problem.WRONG_SIZE, 2)
    assert found.image_ids.tolist() == [7]
    assert "'a.png': 48 x 64, not 48 x 65 pixels" in line
    assert "'b.png': unreadable" in line
    assert len(found.labels) == 0


def test_categories_without_a_name_are_named(tmp_path):
    data = dataset()
    del data["categories"][0]["name"]
    data["categories"][1]["name"] = "  "
    found, kind, count, line = problem(tmp_path, data)
    assert (kind, count) == (Problem.UNNAMED_CATEGORY, 2)
    assert found.class_names == ("category 3", "dog", "category 90")
    assert "category 90, category 3" in line


@pytest.mark.parametrize(
    "more",
    [
        {"bbox": ...},
        {"bbox": [1, 2, 3]},
        {"bbox": [1, 2, 3, float("nan")]},
        {"bbox": [1, 2, "x", 4]},
        {"bbox": 5},
        {"bbox": None},
        {"image_id": ...},
        {"image_id": "9"},
        {"category_id": None},
        {"category_id": 3.0},
        {"area": "large"},
        {"area": float("inf")},
    ],
)
def test_unreadable_annotations_are_left_out(tmp_path, more):
    data = dataset()
    data["annotations"].append(annotation(6, 9, 3, [1, 1, 5, 5], **more))
    found, kind, count, line = problem(tmp_path, data)
    assert (kind, count, len(found.labels)) == (Problem.UNREADABLE_ANNOTATION, 1, 5)
    assert "annotations[5]" in line


@pytest.mark.parametrize("entry", ["annotation", None, [], 3])
def test_annotations_that_are_none_are_left_out(tmp_path, entry):
    data = dataset()
    data["annotations"].insert(0, entry)
    found, kind, _, line = problem(tmp_path, data)
    assert (kind, len(found.labels)) == (Problem.UNREADABLE_ANNOTATION, 5)
    assert "annotations[0]" in line


def test_annotations_of_unknown_images_and_categories_are_left_out(tmp_path):
    data = dataset()
    data["annotations"] += [annotation(60, 1000, 3, [1, 1, 5, 5]), annotation(61, 9, 4, [1, 1, 5, 5])]
    found = read_coco(*write(tmp_path, data))
    assert len(found.labels) == 5
    assert found.problems.lines() == [
        "1 annotations of an unknown image (annotation 60: image 1000): left out",
        "1 annotations of an unknown category (annotation 61: category 4): left out",
    ]


@pytest.mark.parametrize(
    ("box", "more", "expected", "is_trained_on"),
    [
        ([5, 5, 0, 9], {}, Problem.EMPTY_BOX, False),
        ([5, 5, -3, 9], {"area": 5}, Problem.EMPTY_BOX, False),
        ([5, 5, 9, 9], {"area": 0}, Problem.EMPTY_BOX, False),
        ([64, 5, 9, 9], {}, Problem.BOX_OUTSIDE, False),
        ([-20, 5, 20, 9], {}, Problem.BOX_OUTSIDE, False),
        ([50, 5, 20, 9], {}, Problem.BOX_REACHES_OUT, True),
        ([-1.5, 5, 20, 9], {}, Problem.BOX_REACHES_OUT, True),
    ],
)
def test_odd_boxes_are_found(tmp_path, box, more, expected, is_trained_on):
    data = dataset()
    data["annotations"].append(annotation(77, 7, 3, box, **more))
    found, kind, count, line = problem(tmp_path, data)
    assert (kind, count) == (expected, 1)
    assert "(annotation 77)" in line
    assert found.is_trained_on[-1] == is_trained_on
    assert found.boxes[-1].tolist() == box  # in evaluation they count as they are


@pytest.mark.parametrize(
    ("box", "more", "is_trained_on"),
    [
        ([-0.5, 5, 9, 9], {}, True),
        ([5, 5, 1, 1], {}, True),
        ([5, 5, 0.9, 5], {}, False),
        ([5, 5, 5, 5], {"ignore": 1}, False),
        ([5, 5, 5, 5], {"iscrowd": 1}, False),
        ([5, 5, 5, 5], {"area": ...}, True),
        ([5, 5, 5, 5], {"iscrowd": ..., "id": ...}, True),
    ],
)
def test_the_official_filters(tmp_path, box, more, is_trained_on):
    data = dataset()
    data["annotations"].append(annotation(6, 7, 3, box, **more))
    found = read_coco(*write(tmp_path, data))
    assert found.problems.lines() == []
    assert found.is_trained_on[-1] == is_trained_on
    assert found.areas[-1] == box[2] * box[3]


@pytest.mark.parametrize(
    "segmentation",
    [
        ...,
        None,
        [],
        "mask",
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, 4, 5, "6"]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [None],
        {"counts": [3072]},
        {"size": [48, 64]},
        {"size": [64, 48], "counts": [3072]},
        {"size": [48, 64], "counts": [3071]},
        {"size": [48, 64], "counts": [-1, 3073]},
        {"size": [48, 64], "counts": "damaged\x7f"},
        {"size": [48, 64], "counts": "0"},
        {"size": [48, 64], "counts": None},
        {"size": 48, "counts": [3072]},
        {"size": [48, 64], "counts": [10**30]},
    ],
)
def test_damaged_masks_are_found(tmp_path, segmentation):
    data = dataset()
    data["annotations"].append(annotation(77, 7, 3, [5, 5, 9, 9], segmentation=segmentation))
    found, kind, count, line = problem(tmp_path, data)
    assert (kind, count) == (Problem.BAD_MASK, 1)
    assert "annotation 77" in line
    assert found.has_mask.tolist() == [True] * 5 + [False]
    assert found.is_trained_on[-1]
    assert found.mask(0, (48, 64)).any()  # those before and after are not disturbed


def test_a_dataset_without_masks_is_no_problem(tmp_path):
    data = dataset()
    for entry in data["annotations"]:
        del entry["segmentation"]
    found = read_coco(*write(tmp_path, data))
    assert not found.has_mask.any()
    assert found.summary() == [f"{found.file}: 3 images, 5 objects of 3 classes, no masks"]


def change(path, value):
    def apply(data):
        *parents, last = path
        for key in parents:
            data = data[key]
        if value is ...:
            del data[last]
        else:
            data[last] = value

    return apply


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change(["images"], ...), "'images' must be there"),
        (change(["annotations"], {}), "'annotations' must be there"),
        (change(["categories"], None), "'categories' must be there"),
        (change(["categories"], []), "there are none"),
        (change(["categories", 1, "id"], ...), r"categories\[1\]: has no whole number as its id"),
        (change(["categories", 1], "cat"), r"categories\[1\]"),
        (change(["categories", 1, "id"], 17), "categories: several with the same id: '17'"),
        (change(["categories", 1, "name"], "dog"), "categories: several with the same name: 'dog'"),
        (change(["images", 2, "id"], 9), "images: several with the same id: '9'"),
        (change(["images"], []), "there is none that can be used"),
        (change(["images"], [{"id": 5}]), "1 images without a whole-number id"),
    ],
)
def test_datasets_that_cannot_be_used_are_refused(tmp_path, edit, message):
    data = dataset()
    edit(data)
    with pytest.raises(DatasetError, match=message) as caught:
        read_coco(*write(tmp_path, data))
    assert str(tmp_path / "annotations.json") in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", '{"images": [', "[]", "3", "\x00", '{"images": 1, "annotations": 2}'])
def test_damaged_json_is_refused(tmp_path, text):
    file, folder = write(tmp_path, dataset())
    file.write_text(text)
    with pytest.raises(DatasetError, match=r"annotations\.json"):
        read_coco(file, folder)


def test_missing_files_and_folders_are_refused(tmp_path):
    file, folder = write(tmp_path, dataset())
    with pytest.raises(DatasetError, match=r"none\.json: there is no such file"):
        read_coco(tmp_path / "none.json", folder)
    with pytest.raises(DatasetError, match=r"none' is no folder"):
        read_coco(file, tmp_path / "none")
    with pytest.raises(DatasetError, match=r"none of its 3 images is in"):
        read_coco(file, tmp_path)
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"holds no images that fit it: 3 images whose file cannot be opened"):
        read_coco(file, folder)


def test_every_file_is_looked_at_when_a_dataset_is_opened(tmp_path):
    count = 5000
    folder = tmp_path / "images"
    folder.mkdir()
    image = Path(folder, "0.png")
    write(tmp_path, {"images": [{"id": 0, "file_name": "0.png", "height": 8, "width": 8}]})
    for number in range(1, count):
        os.link(image, folder / f"{number}.png")
    data = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 8, "width": 8} for n in range(count)],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [annotation(n, n % count, 1, [1, 1, 4, 4]) for n in range(8 * count)],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(data))
    Path(folder, f"{count - 2}.png").unlink()
    Path(folder, f"{count - 2}.png").write_bytes(b"no picture")
    found = read_coco(tmp_path / "annotations.json", folder)
    assert (len(found), len(found.labels)) == (count - 1, 8 * (count - 1))
    assert f"'{count - 2}.png': unreadable" in "".join(found.problems.lines())
