"""From files to batches: all kinds of image files, filters, padding, loader workers."""

import tracemalloc
from functools import partial

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch.utils.data import DataLoader

from coco_data import annotation, dataset, write
from piip.batches import PreparedImage, collate_images
from piip.images import ImageError
from piip.sampling import AugmentedDataset, SampleKey
from piip.tasks.detection.augmentation import (
    DetectionPreprocessConfig,
    LargeScaleJitterConfig,
    MultiScaleConfig,
    SingleScaleConfig,
)
from piip.tasks.detection.coco import read_coco
from piip.tasks.detection.data import EvaluationSet, TrainingSample, TrainingSet, collate_samples, prepare
from piip.tasks.detection.structures import Target

PREPROCESS = DetectionPreprocessConfig(scale=(80, 60), mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3, size_divisor=32)
UNCHANGED = SingleScaleConfig(hflip=0.0)


def gradient(height=40, width=60) -> np.ndarray:
    """Grey, darkest at the top left, brighter to the right and, less so, downwards."""
    x, y = np.arange(width), np.arange(height)[:, None]
    return (10 + 3 * x + y).astype(np.uint8)


def open_one(tmp_path, name, height, width, box=(6, 4, 10, 20)):
    """A dataset of one image that is there already, with one object."""
    data = {
        "images": [{"id": 1, "file_name": name, "height": height, "width": width}],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [annotation(1, 1, 1, list(box))],
    }
    return read_coco(*write(tmp_path, data))


def save(tmp_path, name, image, **options):
    (tmp_path / "images").mkdir(exist_ok=True)
    image.save(tmp_path / "images" / name, **options)


GREY = gradient()
FILES = {
    "grey.png": Image.fromarray(GREY),
    "rgb.png": Image.fromarray(GREY).convert("RGB"),
    "palette.png": Image.fromarray(GREY).convert("P"),
    "deep.png": Image.fromarray(GREY.astype(np.uint16) * 257),
    "deep.tif": Image.fromarray(GREY.astype(np.uint16) * 257),
    "cmyk.jpg": Image.fromarray(GREY).convert("RGB").convert("CMYK"),
    "alpha.png": Image.fromarray(np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_same_pixels(tmp_path, name):
    save(tmp_path, name, FILES[name])
    annotations = open_one(tmp_path, name, 40, 60)
    size_kept = DetectionPreprocessConfig(scale=(60, 40), mean=(0.0,) * 3, std=(1 / 255,) * 3)
    image, target = TrainingSet(annotations, UNCHANGED.build(size_kept))[0]
    assert image.pixels.shape == (3, 40, 60)
    assert image.original_size == (40, 60)
    assert (image.pixels - torch.from_numpy(GREY)).abs().max() < (6 if name == "cmyk.jpg" else 1)
    assert target.boxes.tolist() == [[6, 4, 16, 24]]
    expected = torch.zeros(40, 60, dtype=torch.bool)
    expected[4:24, 6:16] = True
    assert torch.equal(target.masks, expected[None])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("annotated", ["upright", "stored"])
def test_photos_are_read_the_way_round_that_they_were_annotated(tmp_path, orientation, annotated):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    save(tmp_path, "photo.png", Image.fromarray(GREY), exif=exif)
    turns = orientation >= 5
    height, width = (60, 40) if turns and annotated == "upright" else (40, 60)
    image = EvaluationSet(open_one(tmp_path, "photo.png", height, width), PREPROCESS.build())[0]
    assert image.original_size == (height, width)
    corners = [image.pixels[0, y, x].item() for y in (0, -1) for x in (0, -1)]
    darkest = corners.index(min(corners))  # top left, top right, bottom left, bottom right
    if turns and annotated == "stored":
        assert darkest == 0
    else:  # where both ways have the same size, upright is taken
        assert darkest == {1: 0, 2: 1, 3: 3, 4: 2, 5: 0, 6: 1, 7: 3, 8: 2}[orientation]


def test_a_file_that_changed_after_opening_is_named(tmp_path):
    save(tmp_path, "a.png", Image.fromarray(GREY))
    annotations = open_one(tmp_path, "a.png", 40, 60)
    images = EvaluationSet(annotations, PREPROCESS.build())
    save(tmp_path, "a.png", Image.fromarray(GREY[:30]))
    with pytest.raises(ImageError, match=r"a\.png' has 30 x 60 pixels, but .*annotations\.json says 40 x 60"):
        images[0]
    save(tmp_path, "a.png", Image.fromarray(GREY.T.copy()))  # turned, but not by EXIF data
    with pytest.raises(ImageError, match="has 60 x 40 pixels"):
        images[0]
    (tmp_path / "images" / "a.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"a\.png"):
        images[0]


def test_what_is_not_trained_on_is_left_out_and_boxes_are_cut_at_the_edge(tmp_path):
    data = dataset()
    data["annotations"] += [
        annotation(6, 9, 90, [50.0, 40.0, 30.0, 30.0]),
        annotation(7, 9, 90, [50.0, 40.0, 0.0, 3.0]),
        annotation(8, 9, 90, [5.0, 5.0, 9.0, 9.0], segmentation=[]),
    ]
    annotations = read_coco(*write(tmp_path, data))
    preprocess = DetectionPreprocessConfig(scale=(128, 96))
    training = TrainingSet(annotations, UNCHANGED.build(preprocess))
    _, target = training[0]
    assert target.labels.tolist() == [0, 1, 2, 2]
    assert target.labels.dtype == torch.int64
    assert target.boxes.tolist() == [[10, 12, 50, 32], [60, 20, 81, 60.5], [100, 80, 128, 96], [10, 10, 28, 28]]
    assert target.masks.shape == (4, 96, 128)
    assert target.masks.any(dim=(1, 2)).tolist() == target.has_mask.tolist() == [True, True, True, False]
    assert training[1].target.has_mask is None
    _, without_masks = TrainingSet(annotations, UNCHANGED.build(preprocess), with_masks=False)[0]
    assert torch.equal(without_masks.boxes, target.boxes)
    assert torch.equal(without_masks.labels, target.labels)
    assert without_masks.masks is without_masks.has_mask is None


def test_images_without_annotations_and_small_ones(tmp_path):
    data = dataset()
    data["images"] += [
        {"id": 30, "file_name": "small.png", "width": 31, "height": 64},
        {"id": 31, "file_name": "crowd.png", "width": 32, "height": 32},
    ]
    data["annotations"] += [
        annotation(6, 30, 3, [1, 1, 9, 9]),
        annotation(7, 31, 3, [1, 1, 9, 9], iscrowd=1),
    ]
    annotations = read_coco(*write(tmp_path, data))
    transform = UNCHANGED.build(PREPROCESS)
    official = TrainingSet(annotations, transform)
    assert official.images.tolist() == [0, 1, 4]
    assert official.aspect_groups == [1, 0, 0]
    assert TrainingSet(annotations, transform, keep_empty=True).images.tolist() == [0, 1, 2, 4]
    assert TrainingSet(annotations, transform, min_side=1).images.tolist() == [0, 1, 3, 4]
    assert official.summary() == [
        "2 of 5 images are not trained on: 1 without annotations (--keep-empty trains on them too), 1 with a side of "
        "less than 32 pixels"
    ]
    kept = TrainingSet(annotations, transform, keep_empty=True)
    assert kept.summary() == ["1 of 5 images are not trained on: 1 with a side of less than 32 pixels"]
    assert TrainingSet(annotations, transform, keep_empty=True, min_side=1).summary() == []
    for sample in (official[2], TrainingSet(annotations, transform, keep_empty=True)[2]):  # a crowd; nothing
        assert sample.target.boxes.shape == (0, 4)
        assert sample.target.labels.shape == (0,)
        assert sample.target.masks.shape == (0, *sample.image.pixels.shape[1:])
    with pytest.raises(ValueError, match=r"none of its 5 images .* at least 999 pixels"):
        TrainingSet(annotations, transform, min_side=999)


def test_masks_are_asked_for_and_there_is_none(tmp_path):
    data = dataset()
    for entry in data["annotations"]:
        del entry["segmentation"]
    annotations = read_coco(*write(tmp_path, data))
    with pytest.raises(ValueError, match="no annotation has a mask"):
        TrainingSet(annotations, UNCHANGED.build(PREPROCESS))
    assert TrainingSet(annotations, UNCHANGED.build(PREPROCESS), with_masks=False)[0].target.masks is None


def test_one_pixel_objects(tmp_path):
    save(tmp_path, "a.png", Image.fromarray(GREY))
    annotations = open_one(tmp_path, "a.png", 40, 60, box=(59, 39, 1, 1))
    for config in (SingleScaleConfig(hflip=1.0), LargeScaleJitterConfig(size=64), MultiScaleConfig()):
        training = AugmentedDataset(TrainingSet(annotations, config.build(PREPROCESS)), seed=0)
        for epoch in range(20):
            _, target = training[SampleKey(epoch, 0)]
            assert len(target.boxes) == len(target.masks) <= 1
            assert (target.boxes[:, 2:] > target.boxes[:, :2]).all()


def test_many_objects_on_a_large_photo_take_little_memory(tmp_path):
    height, width = 1500, 2000
    save(tmp_path, "a.png", Image.new("L", (width, height)))
    data = {
        "images": [{"id": 1, "file_name": "a.png", "height": height, "width": width}],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [annotation(n, 1, 1, [9 * n, 7 * n, 40, 40]) for n in range(200)],
    }
    training = TrainingSet(read_coco(*write(tmp_path, data)), UNCHANGED.build(PREPROCESS))
    tracemalloc.start()
    _, target = training[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert target.masks.shape == (200, 60, 80)
    assert target.masks.any(dim=(1, 2)).all()
    assert peak < 50_000_000  # of NumPy; masks of the photo's size would be 600 MB


def test_the_limit_takes_the_first_images(tmp_path):
    annotations = read_coco(*write(tmp_path, dataset()))
    assert list(EvaluationSet(annotations, PREPROCESS.build(), limit=2).images) == [0, 1]
    assert len(EvaluationSet(annotations, PREPROCESS.build(), limit=99)) == 3
    with pytest.raises(ValueError, match="limit=0"):
        EvaluationSet(annotations, PREPROCESS.build(), limit=0)


def test_padding_goes_right_and_below(tmp_path):
    images = [PreparedImage(torch.ones(3, height, width), (1, 2)) for height, width in ((30, 65), (33, 20))]
    batch = collate_images(images, 32)
    assert batch.pixels.shape == (2, 3, 64, 96)
    assert batch.sizes == ((30, 65), (33, 20))
    assert batch.padded_sizes == ((32, 96), (64, 32))
    assert batch.original_sizes == ((1, 2), (1, 2))
    for pixels, (height, width) in zip(batch.pixels, batch.sizes, strict=True):
        assert pixels.sum() == pixels[:, :height, :width].sum() == 3 * height * width
    masks = torch.ones(2, 30, 65, dtype=torch.bool)
    samples = [
        TrainingSample(images[0], Target(torch.zeros(2, 4), torch.zeros(2), masks)),
        TrainingSample(images[1], Target(torch.zeros(0, 4), torch.zeros(0), None)),
    ]
    same, (first, second) = collate_samples(samples, 32)
    assert torch.equal(same.pixels, batch.pixels)
    assert first.masks.shape == (2, 64, 96)
    assert first.masks.dtype == torch.bool
    assert first.masks.sum() == masks.sum()
    assert second.masks is None
    assert collate_images(images[:1], 1).pixels.shape == (1, 3, 30, 65)


@pytest.mark.parametrize("config", [SingleScaleConfig(), MultiScaleConfig(), LargeScaleJitterConfig(size=64)])
def test_workers_give_the_same_batches(tmp_path, config):
    annotations = read_coco(*write(tmp_path, dataset()))
    training = AugmentedDataset(TrainingSet(annotations, config.build(PREPROCESS)), seed=3)
    keys = [[SampleKey(epoch, index) for index in (0, 1)] for epoch in range(4)]
    collate = partial(collate_samples, size_divisor=PREPROCESS.size_divisor)
    loaders = [DataLoader(training, batch_sampler=keys, num_workers=workers, collate_fn=collate) for workers in (0, 2)]
    for (batch, targets), (other_batch, other_targets) in zip(*loaders, strict=True):
        assert torch.equal(batch.pixels, other_batch.pixels)
        assert batch[1:] == other_batch[1:]
        assert batch.pixels.shape[2] % 32 == batch.pixels.shape[3] % 32 == 0
        for target, other in zip(targets, other_targets, strict=True):
            assert all(torch.equal(*pair) for pair in zip(target[:3], other[:3], strict=True))
            assert target.has_mask is other.has_mask is None
            assert target.masks.shape[1:] == batch.pixels.shape[2:]


def test_images_alone_are_prepared_as_those_of_a_dataset(tmp_path):
    save(tmp_path, "a.png", Image.fromarray(GREY))
    transform = PREPROCESS.build()
    expected = EvaluationSet(open_one(tmp_path, "a.png", 40, 60), transform)[0]
    image = prepare(Image.fromarray(GREY).convert("RGB"), transform)
    assert torch.equal(image.pixels, expected.pixels)
    assert type(image.pixels) is torch.Tensor
    assert image.original_size == expected.original_size == (40, 60)
