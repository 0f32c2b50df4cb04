"""COCO's scores, against pycocotools on the same detections."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from coco_data import annotation, dataset, write
from piip.rle import encode_rle, runs_to_mask
from piip.tasks.detection.coco import read_coco
from piip.tasks.detection.masks import encode_masks
from piip.tasks.detection.metric import coco_results, score_results
from piip.tasks.detection.structures import Detections

NUM_IMAGES, SIZE = 25, (150, 200)
CATEGORIES = [{"id": 7, "name": "a"}, {"id": 2, "name": "b"}, {"id": 55, "name": "never there"}]


def blob(generator, box):
    """A mask: an ellipse in a box."""
    x, y, width, height = box
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    inside = ((columns - x - width / 2) / (width / 2)) ** 2 + ((rows - y - height / 2) / (height / 2)) ** 2 < 1
    return np.asarray(inside)


def make_dataset(tmp_path):
    generator = np.random.default_rng(0)
    annotations = []
    for image in range(NUM_IMAGES):
        for _ in range(generator.integers(0, 9)):
            width, height = generator.uniform(8, 130, 2) * generator.uniform(0.1, 1)
            box = [generator.uniform(0, SIZE[1] - width), generator.uniform(0, SIZE[0] - height), width, height]
            mask = blob(generator, box)
            crowd = bool(generator.random() < 0.1)
            x, y = box[:2]
            polygon = [[x, y + height / 2, x + width / 2, y, x + width, y + height / 2, x + width / 2, y + height]]
            kind = generator.integers(3)
            segmentation = polygon if kind == 0 and not crowd else encode_rle(mask)
            annotations.append(
                annotation(len(annotations), 1000 - image, int(generator.choice([2, 7])), box, iscrowd=int(crowd),
                           area=float(max(1, mask.sum())), segmentation=segmentation)
            )  # fmt: skip
    images = [{"id": 1000 - n, "file_name": f"{n}.png", "height": SIZE[0], "width": SIZE[1]} for n in range(NUM_IMAGES)]
    return write(tmp_path, {"images": images, "categories": CATEGORIES, "annotations": annotations})


def make_results(file, with_masks):
    """What a middling detector finds: some objects, somewhat beside, and some that are not there."""
    generator = np.random.default_rng(1)
    results = []
    data = json.loads(file.read_text())
    found = [
        (entry["image_id"], entry["category_id"], entry["bbox"]) for entry in data["annotations"] for _ in range(3)
    ]
    found += [
        (1000 - int(n), int(generator.choice([2, 7, 55])), [20, 20, 40, 30]) for n in generator.integers(25, size=40)
    ]
    for image, category, box in found:
        if generator.random() < 0.25:
            continue
        noisy = (np.array(box) + generator.normal(0, 0.08, 4) * max(box[2:])).clip(0.5, None).tolist()
        result = {"image_id": image, "category_id": category, "bbox": noisy, "score": round(generator.random(), 2)}
        if with_masks:
            result["segmentation"] = encode_rle(blob(generator, noisy))
        results.append(result)
    return results


def oracle(file, results, iou_type, image_ids=None):
    """The twelve numbers and those of the classes, by pycocotools."""
    unused = {"bbox": "segmentation", "segm": "bbox"}[iou_type]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        for number, entry in enumerate(truth.dataset["annotations"]):
            entry["id"] = number + 1
        truth.createIndex()
        found = truth.loadRes([{key: value for key, value in item.items() if key != unused} for item in results])
        evaluation = COCOeval(truth, found, iou_type)
        if image_ids is not None:
            evaluation.params.imgIds = image_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return evaluation.stats, [values.mean() for values in np.moveaxis(precision, 2, 0)]


def assert_same(scores, expected):
    stats, per_class = expected
    *numbers, classes = (getattr(scores, name) for name in scores.__dataclass_fields__)
    assert len(numbers) == 12
    for found, wanted in zip([*numbers, *classes], [*stats, *per_class], strict=True):
        assert found is None if wanted == -1 else found == pytest.approx(100 * wanted, abs=1e-8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scores_are_those_of_pycocotools(tmp_path):
    file, folder = make_dataset(tmp_path)
    annotations, results = read_coco(file, folder), make_results(file, with_masks=True)
    before = json.dumps(results)
    scores = score_results(annotations, range(NUM_IMAGES), results, with_masks=True)
    assert json.dumps(results) == before
    assert scores.num_images == NUM_IMAGES
    assert_same(scores.box, oracle(file, results, "bbox"))
    assert_same(scores.mask, oracle(file, results, "segm"))
    assert 10 < scores.mask.ap < scores.box.ap50 < 90
    assert scores.box.ap_small != scores.mask.ap_small
    assert len(scores.box.per_class) == 3
    assert scores.box.per_class[2] is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_some_of_the_images_and_boxes_alone(tmp_path):
    file, folder = make_dataset(tmp_path)
    annotations, results = read_coco(file, folder), make_results(file, with_masks=False)
    chosen = [result for result in results if result["image_id"] > 990]
    scores = score_results(annotations, range(10), chosen, with_masks=False)
    assert scores.mask is None
    assert scores.num_images == 10
    assert_same(scores.box, oracle(file, chosen, "bbox", image_ids=list(range(991, 1001))))


@pytest.mark.parametrize("number", [0, -7, 2**31, 2**53 + 1, 2**63 - 1])
@pytest.mark.parametrize(("kind", "field", "old"), [("images", "image_id", 9), ("categories", "category_id", 3)])
def test_any_id_is_scored(tmp_path, number, kind, field, old):
    data = dataset()
    for entry in data[kind]:
        entry["id"] = number if entry["id"] == old else entry["id"]
    for entry in data["annotations"]:
        entry[field] = number if entry[field] == old else entry[field]
    annotations = read_coco(*write(tmp_path, data))
    results = [
        {
            "image_id": int(annotations.image_ids[image]),
            "category_id": annotations.category_ids[annotations.labels[place]],
            "bbox": annotations.boxes[place].tolist(),
            "score": 0.5,
            "segmentation": encode_rle(runs_to_mask(annotations.runs(place, size), size)),
        }
        for image, size in enumerate(annotations.sizes)
        for place in annotations.objects(image)
        if not annotations.is_crowd[place]
    ]
    assert number in {result[field] for result in results}
    scores = score_results(annotations, range(3), results, with_masks=True)
    assert scores.box.ap == scores.mask.ap == pytest.approx(100)
    assert scores.box.per_class == pytest.approx((100, 100, 100))


def test_nothing_found_and_nothing_to_find(tmp_path):
    annotations = read_coco(*write(tmp_path, dataset()))
    scores = score_results(annotations, range(3), [], with_masks=True)
    assert (scores.box.ap, scores.mask.ap50, scores.box.ar_100) == (0, 0, 0)
    assert scores.box.ap_large is None
    assert scores.box.per_class == (0, 0, 0)
    scores = score_results(annotations, [2], [], with_masks=True)  # an image without objects
    assert (scores.box.ap, scores.mask.ap, scores.box.per_class) == (None, None, (None,) * 3)
    result = {"image_id": 7, "category_id": 3, "bbox": [1.0, 1.0, 5.0, 5.0], "score": 0.5}
    assert score_results(annotations, [2], [result], with_masks=False).box.ap is None


def test_perfect_detections_have_a_perfect_score_even_with_a_crowd_and_the_id_zero(tmp_path):
    data = dataset()
    for number, entry in enumerate(data["annotations"]):
        entry["id"] = number
    annotations = read_coco(*write(tmp_path, data))
    results = [
        {"image_id": entry["image_id"], "category_id": entry["category_id"], "bbox": entry["bbox"], "score": 0.9}
        for entry in data["annotations"]
        if not entry["iscrowd"]
    ]
    results.append({"image_id": 9, "category_id": 3, "bbox": [40.0, 30.0, 5.0, 5.0], "score": 0.95})  # in the crowd
    scores = score_results(annotations, range(3), results, with_masks=False)
    assert scores.box.ap == pytest.approx(100)
    assert scores.box.per_class == pytest.approx((100, 100, 100))


def test_objects_without_a_mask_count_for_boxes_alone(tmp_path):
    data = dataset()
    data["annotations"].append(annotation(6, 7, 3, [5.0, 5.0, 9.0, 9.0], segmentation=[]))
    annotations = read_coco(*write(tmp_path, data))
    results = []
    for entry in data["annotations"]:
        if entry["iscrowd"] or entry["id"] == 6:
            continue
        x, y, width, height = entry["bbox"]
        mask = np.zeros((64, 48) if entry["image_id"] == 4 else (48, 64), dtype=bool)
        mask[round(y) : round(y + height), round(x) : round(x + width)] = True
        result = {name: entry[name] for name in ("image_id", "category_id", "bbox")}
        results.append({**result, "score": 0.9, "segmentation": encode_rle(mask)})
    scores = score_results(annotations, range(3), results, with_masks=True)
    assert scores.box.per_class[0] < 60
    assert scores.mask.per_class[0] == pytest.approx(100)


def test_datasets_without_masks_have_no_mask_score(tmp_path):
    data = dataset()
    for entry in data["annotations"]:
        del entry["segmentation"]
    annotations = read_coco(*write(tmp_path, data))
    assert score_results(annotations, range(3), [], with_masks=True).mask is None


def test_results_are_in_the_format_of_coco(tmp_path):
    annotations = read_coco(*write(tmp_path, dataset()), class_names=("dog", "no such class here", "cat", "zebra"))
    detections = Detections(
        boxes=torch.tensor([[1.0, 2.0, 11.0, 22.0], [0.0, 0.0, 5.0, 5.0], [2.0, 2.0, 4.0, 4.0]]),
        scores=torch.tensor([0.75, 0.5, 0.25]),
        labels=torch.tensor([3, 1, 0]),
        mask_probs=torch.tensor([1.0, 0.0, 1.0])[:, None, None].expand(3, 4, 4),
        image_size=(64, 48),
    )
    first, second = coco_results(annotations, 1, detections)
    assert first == {
        "image_id": 4,
        "category_id": 90,
        "bbox": [1.0, 2.0, 10.0, 20.0],
        "score": 0.75,
        "segmentation": first["segmentation"],
    }
    masks = encode_masks(detections)
    assert (first["segmentation"], second["segmentation"]) == (masks[0], masks[2])
    assert (second["category_id"], second["score"]) == (17, 0.25)
    assert json.loads(json.dumps([first, second])) == [first, second]
