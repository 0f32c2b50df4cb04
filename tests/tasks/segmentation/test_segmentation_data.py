"""From files to batches: damaged files, padding, loader workers."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch.utils.data import DataLoader

from mask_data import labels, save, write_masks
from piip.batches import PreparedImage, collate_images
from piip.images import ImageError, ImageWarning
from piip.problems import DatasetError
from piip.sampling import AugmentedDataset, SampleKey, seeded
from piip.tasks.segmentation.augmentation import SegmentationAugmentationConfig, SegmentationPreprocessConfig
from piip.tasks.segmentation.coding import MaskError
from piip.tasks.segmentation.data import (
    EvaluationSample,
    EvaluationSet,
    TrainingSet,
    collate_evaluation,
    collate_training,
)
from piip.tasks.segmentation.files import open_split
from piip.tasks.segmentation.structures import IGNORED

PREPROCESS = SegmentationPreprocessConfig(short_side=24, mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3)
UNCHANGED = SegmentationAugmentationConfig(factors=(1.0, 1.0), class_limit=1.0, hflip=0.0, colours=None)


def training_set(file, augmentation=UNCHANGED):
    return TrainingSet(open_split(file, "train"), augmentation.build(PREPROCESS))


def red_of(expected):
    return torch.where(expected == IGNORED, 0, 60 * expected.int() + 60).float()


def test_a_training_sample_is_a_square_with_its_labels(tmp_path):
    pixels, found = training_set(write_masks(tmp_path))[2]
    assert pixels.shape == (3, 24, 24)
    assert pixels.dtype == torch.float32
    assert type(pixels) is type(found) is torch.Tensor
    assert found.dtype == torch.uint8
    assert torch.equal(pixels[0].round(), red_of(found))
    whole = torch.from_numpy(labels(2))
    assert any(torch.equal(found, whole[:, left : left + 24]) for left in range(9))


def test_batches_for_training(tmp_path):
    data = training_set(write_masks(tmp_path))
    images, found = collate_training([data[0], data[1], data[2]])
    assert images.pixels.shape == (3, 3, 24, 24)
    assert images.sizes == images.original_sizes == ((24, 24),) * 3
    assert images.padded_sizes is None
    assert found.dtype == torch.int64
    assert found.shape == (3, 24, 24)
    assert IGNORED in found


def test_an_evaluation_sample_keeps_the_labels_as_they_are(tmp_path):
    files = open_split(write_masks(tmp_path), "val")
    dataset = EvaluationSet(files, SegmentationPreprocessConfig(short_side=48).build())
    (image, found), *_ = (dataset[index] for index in range(len(dataset)))
    assert image.pixels.shape == (3, 48, 64)
    assert image.original_size == found.shape == (24, 32)
    assert torch.equal(found, torch.from_numpy(labels(4)))
    assert [EvaluationSet(files, dataset.transform, limit).images for limit in (1, 2, 9)] == [[1], [0, 2], [0, 1, 2]]
    with pytest.raises(ValueError, match="limit=0 must be at least 1"):
        EvaluationSet(files, dataset.transform, 0)


def test_images_of_a_batch_are_padded_to_the_largest():
    images = [PreparedImage(torch.ones(3, 4, 7), (8, 14)), PreparedImage(torch.ones(3, 5, 6), (50, 60))]
    batch = collate_images(images)
    assert batch.pixels.shape == (2, 3, 5, 7)
    assert batch.sizes == batch.padded_sizes == ((4, 7), (5, 6))
    assert batch.original_sizes == ((8, 14), (50, 60))
    assert batch.pixels.sum() == 3 * (28 + 30)
    again, found = collate_evaluation([EvaluationSample(image, torch.zeros(image.original_size)) for image in images])
    assert torch.equal(again.pixels, batch.pixels)
    assert [own.shape for own in found] == [(8, 14), (50, 60)]


@pytest.mark.parametrize("damage", ["image", "mask"])
def test_a_damaged_file_is_told_and_another_image_trained_on(tmp_path, damage):
    file = write_masks(tmp_path, num_train=40)
    files = open_split(file, "train")
    image, mask = (tmp_path / "train" / folder / "1.png" for folder in ("photos", "labels"))
    path = {"image": image, "mask": mask}[damage]
    path.write_bytes(path.read_bytes()[:60])
    place = [pair[0] for pair in files.pairs].index(str(image))
    data = AugmentedDataset(TrainingSet(files, UNCHANGED.build(PREPROCESS)), seed=0)
    with pytest.warns(UserWarning, match=r"1\.png'.*; another image is taken in its place"):
        found = data[SampleKey(0, place)]
    others = []
    for other in set(range(len(files.pairs))) - {place}:
        with seeded("augment", 0, 0, place):
            others.append(data.dataset[other])
    assert any(all(torch.equal(*pair) for pair in zip(found, other, strict=True)) for other in others)
    held_out = EvaluationSet(files, PREPROCESS.build())
    with pytest.raises(ImageError, match=r"1\.png'"):
        held_out[place]
    with pytest.warns(ImageWarning, match=r"1\.png'.*; it is left out of the evaluation"):
        held_out.check()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_undeclared_value_ends_a_training(tmp_path, num_workers):
    files = open_split(write_masks(tmp_path, num_train=40), "train")
    content = labels(1)
    content[5, 5] = 99
    save(tmp_path / "train" / "labels" / "1.png", content)
    place = [Path(mask).name for _, mask in files.pairs].index("1.png")
    data = AugmentedDataset(TrainingSet(files, UNCHANGED.build(PREPROCESS)), seed=0)
    loader = DataLoader(data, batch_sampler=[[SampleKey(0, place)]], num_workers=num_workers)
    with pytest.raises(MaskError) as caught:
        list(loader)
    assert str(caught.value).startswith(f"mask '{files.pairs[place][1]}' has pixels of '99', which is no value of")
    with pytest.raises(MaskError, match=r"1\.png' has pixels of '99'"):
        EvaluationSet(files, PREPROCESS.build()).check()


def ignore_all(tmp_path, numbers):
    for number in numbers:
        save(tmp_path / "val" / "labels" / f"{number}.png", np.full((24, 32), 255, dtype=np.uint8))


def test_images_without_a_labelled_pixel_are_refused(tmp_path):
    file = write_masks(tmp_path)
    ignore_all(tmp_path, (4, 5))
    held_out = EvaluationSet(open_split(file, "val"), PREPROCESS.build())
    held_out.check()
    ignore_all(tmp_path, (6,))
    none = r"photos': of its 3 images, none can be read and has a mask with a pixel that is not ignored"
    with pytest.raises(DatasetError, match=none):
        held_out.check()
    (tmp_path / "val" / "labels" / "6.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=none), pytest.warns(ImageWarning, match=r"6\.png'.*; it is left out"):
        held_out.check()


def check_on_two(rank, file, store, results):
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    held_out = EvaluationSet(open_split(file, "val"), PREPROCESS.build())
    try:
        held_out.check()
        told = ""
    except DatasetError as error:
        told = str(error)
    (results / f"{rank}").write_text(told)
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("ignored", [(4, 6), (4, 5, 6)])
def test_one_labelled_pixel_on_any_process_is_enough(tmp_path, ignored):
    file = write_masks(tmp_path)
    ignore_all(tmp_path, ignored)  # all of the first process; all of both
    torch.multiprocessing.spawn(check_on_two, (file, tmp_path / "store", tmp_path), nprocs=2)
    for rank in (0, 1):
        assert ("of its 3 images, none" in (tmp_path / f"{rank}").read_text()) is (len(ignored) == 3)


def test_workers_give_what_the_process_itself_gives(tmp_path):
    data = AugmentedDataset(training_set(write_masks(tmp_path), SegmentationAugmentationConfig()), seed=3)
    keys = [[SampleKey(epoch, index) for index in range(4)] for epoch in range(2)]
    batches = [
        list(DataLoader(data, batch_sampler=keys, collate_fn=collate_training, num_workers=workers))
        for workers in (0, 2)
    ]
    for (own, own_labels), (theirs, their_labels) in zip(*batches, strict=True):
        assert torch.equal(own.pixels, theirs.pixels)
        assert torch.equal(own_labels, their_labels)
    (first, _), (second, _) = batches[0]
    assert not torch.equal(first.pixels, second.pixels)


def test_labels_are_those_of_the_model(tmp_path):
    files = open_split(write_masks(tmp_path), "val", ("tree", "car", "road", "sky"))
    _, found = files.read(0)
    assert (found == np.array([2, 3, 0] + 252 * [0] + [255])[labels(4)]).all()
