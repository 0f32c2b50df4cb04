"""Evaluation and prediction: every image once, on any number of processes."""

import json
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from PIL import Image

from piip.images import ImageError
from piip.tasks.detection.coco import read_coco
from piip.tasks.detection.data import EvaluationSet
from piip.tasks.detection.evaluation import evaluate
from piip.tasks.detection.masks import encode_masks
from piip.tasks.detection.metric import coco_results, score_results
from piip.tasks.detection.prediction import predict, select
from toy_detector import PREPROCESS, ToyDetector, write_rectangles

NUM_IMAGES = 11


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_rectangles(tmp_path_factory.mktemp("data"), NUM_IMAGES)


def open_set(paths, limit=None):
    return EvaluationSet(read_coco(*paths), PREPROCESS.build(), limit)


@pytest.fixture(scope="module")
def expected(paths):
    """The scores, image by image."""
    model, dataset = ToyDetector().eval(), open_set(paths)
    results = []
    for image, (_, found) in enumerate(predict(model, PREPROCESS, image_paths(paths), threshold=0.0)):
        results += coco_results(dataset.annotations, image, found)
    return score_results(dataset.annotations, range(NUM_IMAGES), results, with_masks=True)


def image_paths(paths):
    return [paths[1] / f"{number}.png" for number in range(NUM_IMAGES)]


@pytest.mark.parametrize("options", [{}, {"batch_size": 4}, {"batch_size": 100}, {"batch_size": 2, "num_workers": 2}])
def test_every_image_once(paths, expected, options):
    model, done = ToyDetector().train(), []
    scores = evaluate(model, open_set(paths), size_divisor=16, progress=done.append, **options)
    assert scores == expected
    assert scores.num_images == sum(done) == len(model.seen) == NUM_IMAGES
    assert 20 < scores.mask.ap < scores.box.ap < 90
    assert model.training


def test_the_first_images(paths):
    model = ToyDetector()
    scores = evaluate(model, open_set(paths, limit=4), size_divisor=16)
    assert scores.num_images == len(model.seen) == 4


def test_detectors_without_masks(paths, expected):
    scores = evaluate(ToyDetector(with_masks=False), open_set(paths), size_divisor=16)
    assert scores.mask is None
    assert scores.box == expected.box


def test_results_are_written(paths, expected, tmp_path):
    dataset, file = open_set(paths), tmp_path / "results.json"
    evaluate(ToyDetector(), dataset, size_divisor=16, results_file=file)
    results = json.loads(file.read_text())
    assert {"image_id", "category_id", "bbox", "score", "segmentation"} == results[0].keys()
    assert score_results(dataset.annotations, range(NUM_IMAGES), results, with_masks=True) == expected


def test_refusals(paths):
    model, dataset = ToyDetector(), open_set(paths)
    for options, message in (
        ({"batch_size": 0}, "batch_size: must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers: must be at least 0, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(model, dataset, size_divisor=16, **options)


def test_the_mode_is_restored_after_an_error(paths, tmp_path):
    dataset = EvaluationSet(read_coco(*write_rectangles(tmp_path / "broken", 2)), PREPROCESS.build())
    (tmp_path / "broken" / "images" / "1.png").write_bytes(b"")
    model = ToyDetector().train()
    with pytest.raises(ImageError, match=r"1\.png"):
        evaluate(model, dataset, size_divisor=16)
    assert model.training


@pytest.mark.filterwarnings("ignore::piip.images.ImageWarning")
@pytest.mark.parametrize("options", [{}, {"batch_size": 3}, {"num_workers": 1}])
def test_images_that_cannot_be_read_are_left_out_if_that_is_wanted(paths, tmp_path, options):
    annotations = read_coco(*write_rectangles(tmp_path / "broken", NUM_IMAGES))
    dataset, done = EvaluationSet(annotations, PREPROCESS.build()), []
    damaged = (0, 1, 2, 7)
    for number in damaged:
        (tmp_path / "broken" / "images" / f"{number}.png").write_bytes(b"")
    scores = evaluate(ToyDetector(), dataset, size_divisor=16, skip_unreadable=True, progress=done.append, **options)
    assert sum(done) == NUM_IMAGES
    rest = [image for image in range(NUM_IMAGES) if image not in damaged]
    results = []
    for image in rest:
        ((_, found),) = predict(ToyDetector().eval(), PREPROCESS, [image_paths(paths)[image]], threshold=0.0)
        results += coco_results(annotations, image, found)
    assert scores == score_results(annotations, rest, results, with_masks=True)
    assert scores.num_images == NUM_IMAGES - 4


def test_the_extra_is_named_before_the_work_begins(paths, monkeypatch):
    for module in ("faster_coco_eval", "faster_coco_eval.core"):
        monkeypatch.setitem(sys.modules, module, None)
    model = ToyDetector()
    with pytest.raises(ImportError, match=r"pip install 'piip\[train\]'"):
        evaluate(model, open_set(paths), size_divisor=16)
    assert not model.seen
    with pytest.raises(ImportError, match=r"pip install 'piip\[train\]'"):
        read_coco(*paths).runs(0, (60, 80))


def _evaluate_on_one_of(rank: int, world_size: int, paths: tuple[Path, Path], out: Path) -> None:
    dist.init_process_group("gloo", rank=rank, world_size=world_size, init_method=f"file://{out / 'rendezvous'}")
    model = ToyDetector()
    scores = evaluate(model, open_set(paths), size_divisor=16, batch_size=2, results_file=out / "results.json")
    torch.save((scores, len(model.seen)), out / f"{rank}.pt")
    dist.destroy_process_group()


def test_several_processes_share_the_images(paths, expected, tmp_path):
    world_size = 2
    torch.multiprocessing.spawn(_evaluate_on_one_of, (world_size, paths, tmp_path), world_size)
    seen = 0
    for rank in range(world_size):
        scores, count = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert scores == expected
        seen += count
    assert seen == NUM_IMAGES
    evaluate(ToyDetector(), open_set(paths), size_divisor=16, results_file=tmp_path / "one.json")
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads((tmp_path / "one.json").read_text())


def test_prediction_gives_every_file_in_order(paths):
    files = image_paths(paths)
    one = list(predict(ToyDetector().eval(), PREPROCESS, files))
    many = list(predict(ToyDetector().eval(), PREPROCESS, files, batch_size=3))
    assert [path for path, _ in one] == [path for path, _ in many] == files
    for (_, first), (_, second) in zip(one, many, strict=True):
        assert torch.equal(first.boxes, second.boxes)
        assert (first.scores >= 0.5).all()
        assert first.image_size == (60, 80)
        assert len(encode_masks(first)) == len(first.boxes) == len(first.labels)


def test_prediction_is_lazy_and_keeps_what_is_asked_for(paths, tmp_path):
    files = [*image_paths(paths)[:2], tmp_path / "none.png"]
    model = ToyDetector().eval()
    found = predict(model, PREPROCESS, files)
    assert not model.seen
    next(found)
    assert len(model.seen) == 1
    next(found)
    with pytest.raises(ImageError, match=r"none\.png"):
        next(found)
    every = [found for _, found in predict(model, PREPROCESS, image_paths(paths), threshold=0.0)]
    some = [found for _, found in predict(model, PREPROCESS, image_paths(paths), threshold=0.3, labels=[0, 2])]
    for all_found, found in zip(every, some, strict=True):
        wanted = [
            place
            for place, (score, label) in enumerate(zip(all_found.scores, all_found.labels, strict=True))
            if score >= 0.3 and label in (0, 2)
        ]
        assert torch.equal(found.boxes, all_found.boxes[wanted])
        assert torch.equal(found.labels, all_found.labels[wanted])
        assert found.mask_probs.shape == (len(wanted), 28, 28)
    assert sum(len(found.boxes) for found in some) < sum(len(found.boxes) for found in every)
    assert select(every[0], 0.0).boxes.shape == every[0].boxes.shape


def test_prediction_reads_any_size(tmp_path):
    Image.new("L", (300, 100), 40).save(tmp_path / "wide.png")
    ((_, found),) = predict(ToyDetector(with_masks=False).eval(), PREPROCESS, [tmp_path / "wide.png"], threshold=0.0)
    assert found.image_size == (100, 300)
    assert found.mask_probs is None


@pytest.mark.parametrize(
    ("options", "message"),
    [({"threshold": 1.5}, "threshold"), ({"labels": []}, "labels"), ({"batch_size": 0}, "batch_size")],
)
def test_prediction_refuses_what_makes_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        predict(ToyDetector(), PREPROCESS, [], **options)
