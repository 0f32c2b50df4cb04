"""Evaluation and prediction: every image once, on any number of processes."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from PIL import Image

from mask_data import labels, write_masks
from piip.images import ImageError
from piip.tasks.segmentation.data import EvaluationSet
from piip.tasks.segmentation.evaluation import evaluate
from piip.tasks.segmentation.files import open_split
from piip.tasks.segmentation.metric import SegmentationMetric
from piip.tasks.segmentation.prediction import count_pixels, predict, select
from toy_segmentor import PREPROCESS, ToySegmentor

NUM_IMAGES = 7


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_masks(tmp_path_factory.mktemp("data"), num_train=1, num_val=NUM_IMAGES)


def open_set(file, limit=None):
    return EvaluationSet(open_split(file, "val"), PREPROCESS.build(), limit)


def image_paths(file):
    return [Path(image) for image, _ in open_split(file, "val").pairs]


@pytest.fixture(scope="module")
def expected(file):
    """The scores, image by image."""
    metric = SegmentationMetric(3)
    for number, (_, found) in enumerate(predict(ToySegmentor().eval(), PREPROCESS, image_paths(file)), 1):
        metric.update(torch.from_numpy(found), torch.from_numpy(labels(number)))
    return metric.compute()


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}])
def test_every_image_once(file, expected, options):
    model, done = ToySegmentor().train(), []
    scores = evaluate(model, open_set(file), progress=done.append, **options)
    assert scores == expected
    assert scores.num_images == sum(done) == len(model.seen) == NUM_IMAGES
    assert scores.per_class_iou[0] == 100  # roads are found, and half of the trees taken for sky
    assert 20 < scores.per_class_iou[2] < 80
    assert scores.miou < scores.mean_accuracy < 100
    assert model.training


def test_some_images(file):
    model = ToySegmentor()
    assert evaluate(model, open_set(file, limit=4)).num_images == len(model.seen) == 4


def test_refusals(file):
    with pytest.raises(ValueError, match="num_workers: must be at least 0, got -1"):
        evaluate(ToySegmentor(), open_set(file), num_workers=-1)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_mode_is_restored_after_an_error(tmp_path, num_workers):
    dataset = open_set(write_masks(tmp_path))
    (tmp_path / "val" / "labels" / "5.png").write_bytes(b"")
    model = ToySegmentor().train()
    with pytest.raises(ImageError) as caught:
        evaluate(model, dataset, num_workers=num_workers)
    assert str(caught.value).startswith(f"cannot read image '{tmp_path / 'val' / 'labels' / '5.png'}'")
    assert model.training


@pytest.mark.filterwarnings("ignore::piip.images.ImageWarning")
def test_images_that_cannot_be_read_are_left_out_if_that_is_wanted(tmp_path):
    dataset, done = open_set(write_masks(tmp_path, num_val=4)), []
    expected = SegmentationMetric(3)
    for path, found in predict(ToySegmentor().eval(), PREPROCESS, [tmp_path / "val" / "photos" / "4.png"]):
        expected.update(torch.from_numpy(found), torch.from_numpy(labels(int(path.stem))))
    for folder, name in (("photos", "5"), ("labels", "6"), ("labels", "7")):
        (tmp_path / "val" / folder / f"{name}.png").write_bytes(b"")
    scores = evaluate(ToySegmentor(), dataset, skip_unreadable=True, progress=done.append)
    assert scores == expected.compute()
    assert (scores.num_images, sum(done)) == (1, 4)


def _evaluate_on_one_of(rank: int, world_size: int, file: Path, out: Path) -> None:
    dist.init_process_group("gloo", rank=rank, world_size=world_size, init_method=f"file://{out / 'rendezvous'}")
    model = ToySegmentor()
    scores = evaluate(model, open_set(file))
    torch.save((scores, len(model.seen)), out / f"{rank}.pt")
    dist.destroy_process_group()


def test_several_processes_share_the_images(file, expected, tmp_path):
    world_size = 2
    torch.multiprocessing.spawn(_evaluate_on_one_of, (world_size, file, tmp_path), world_size)
    seen = 0
    for rank in range(world_size):
        scores, count = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert scores == expected
        seen += count
    assert seen == NUM_IMAGES


def test_prediction_gives_every_file_in_order(file):
    files = image_paths(file)
    found = list(predict(ToySegmentor().eval(), PREPROCESS, files))
    assert [path for path, _ in found] == files
    for _, label_map in found:
        assert label_map.dtype == np.uint8
        assert label_map.shape == (24, 32)


def test_prediction_is_lazy_and_keeps_what_is_asked_for(file, tmp_path):
    files = [*image_paths(file)[:2], tmp_path / "none.png"]
    model = ToySegmentor().eval()
    found = predict(model, PREPROCESS, files)
    assert not model.seen
    next(found)
    assert len(model.seen) == 1
    next(found)
    with pytest.raises(ImageError, match=r"none\.png"):
        next(found)
    every = [found for _, found in predict(model, PREPROCESS, files[:2])]
    some = [found for _, found in predict(model, PREPROCESS, files[:2], labels=[0, 2])]
    for all_found, chosen in zip(every, some, strict=True):
        assert (chosen == np.where(all_found == 1, 255, all_found)).all()
    assert select(every[0]) is every[0]


def test_prediction_reads_any_size(tmp_path):
    Image.new("L", (300, 100), 40).save(tmp_path / "wide.png")
    ((_, found),) = predict(ToySegmentor().eval(), PREPROCESS, [tmp_path / "wide.png"])
    assert found.shape == (100, 300)


def test_pixels_are_counted_most_first():
    assert count_pixels(np.array([[2, 0, 2], [255, 7, 2]], dtype=np.uint8)) == {2: 3, 0: 1, 7: 1}
    assert count_pixels(np.full((2, 2), 255, dtype=np.uint8)) == {}


def test_prediction_refuses_to_look_for_nothing():
    with pytest.raises(ValueError, match="labels"):
        predict(ToySegmentor(), PREPROCESS, [], labels=[])


def test_images_that_would_become_too_large_are_named(tmp_path):
    for name, size in (("long", (65, 2)), ("wide", (2, 64))):
        Image.fromarray(np.zeros((*size, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    paths, skipped = [tmp_path / "long.png", tmp_path / "wide.png"], []
    model = ToySegmentor().eval()
    found = dict(predict(model, PREPROCESS, paths, skip=lambda path, error: skipped.append((path, str(error)))))
    assert list(found) == paths[1:]
    message = f"image '{paths[0]}' has 65 x 2 pixels, and one side may be at most 32 times as long as the other"
    assert skipped == [(paths[0], f"{message}: cut it into pieces")]
    with pytest.raises(ImageError, match=r"long\.png' has 65 x 2 pixels"):
        list(predict(model, PREPROCESS, paths))
    file = write_masks(tmp_path / "data", num_train=1, num_val=1)
    Image.fromarray(np.zeros((2, 65, 3), dtype=np.uint8)).save(tmp_path / "data" / "val" / "photos" / "1.png")
    Image.fromarray(np.zeros((2, 65), dtype=np.uint8)).save(tmp_path / "data" / "val" / "labels" / "1.png")
    with pytest.raises(ImageError, match=r"photos/1\.png' has 2 x 65 pixels"):
        evaluate(model, open_set(file))
