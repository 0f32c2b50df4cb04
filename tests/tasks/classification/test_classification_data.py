import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from piip.images import ImageError
from piip.sampling import AugmentedDataset, SampleKey, seeded
from piip.shapes import ShapesConfig, draw_scene, write_image_folder
from piip.tasks.classification.data import AugmentationConfig, PreprocessConfig, open_image_folder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    config = ShapesConfig(num_classes=3, image_size=32)
    return write_image_folder(tmp_path_factory.mktemp("data") / "shapes", config, num_train=9, num_val=6)


@pytest.mark.parametrize(
    ("size", "input_size", "crop_ratio"),
    [
        ((500, 375), 224, 1.0),
        ((333, 517), 224, 0.875),
        ((40, 31), 64, 0.95),
        ((224, 224), 224, 1.0),
        ((97, 301), 96, 0.9),
    ],
)
def test_preprocessing_is_the_official_one_to_the_pixel(size, input_size, crop_ratio):
    image = picture(*size)
    official = transforms.Compose(
        [
            transforms.Resize(int(input_size / crop_ratio), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(input_size),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    transform = PreprocessConfig(input_size=input_size, crop_ratio=crop_ratio).build()
    assert torch.equal(transform(image), official(image))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input_size": 0}, "input_size=0"),
        ({"crop_ratio": 1.5}, "crop_ratio=1.5"),
        ({"std": (1.0, 0.0, 1.0)}, "std="),
        ({"std": (1.0, float("nan"), 1.0)}, "std="),
        ({"interpolation": "nearest"}, "interpolation: expected one of 'bicubic', 'bilinear', got 'nearest'"),
    ],
)
def test_impossible_preprocessing_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        PreprocessConfig(**fields)


@pytest.mark.parametrize(
    "config",
    [
        AugmentationConfig(),
        AugmentationConfig(auto_augment=None, random_erasing=1.0),
        AugmentationConfig(auto_augment="augmix-m3"),
    ],
)
def test_augmentation_depends_on_the_generators_only(config):
    transform = config.build(PreprocessConfig(input_size=48))

    def augment(*key):
        with seeded(*key):
            return transform(picture(80, 60))

    first = augment(1)
    assert first.shape == (3, 48, 48)
    assert first.dtype == torch.float32
    random.random()
    assert torch.equal(first, augment(1))
    assert not torch.equal(first, augment(2))


def test_augmentation_can_be_turned_off():
    config = AugmentationConfig(scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.0, color_jitter=0.0, auto_augment=None)
    preprocess = PreprocessConfig(input_size=48)
    image = picture(64, 64)
    assert torch.equal(config.build(preprocess)(image), preprocess.build()(image))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scale": (0.5, 1.5)}, "scale="),
        ({"ratio": (2.0, 1.0)}, "ratio="),
        ({"hflip": 1.5}, "hflip=1.5"),
        ({"random_erasing": -0.5}, "random_erasing=-0.5"),
        ({"color_jitter": -1.0}, "color_jitter=-1.0"),
        ({"auto_augment": "rand-q9"}, "auto_augment='rand-q9'"),
    ],
)
def test_impossible_augmentation_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        AugmentationConfig(**fields).build(PreprocessConfig(input_size=32))


def test_the_size_must_be_known():
    for build in (PreprocessConfig().build, lambda: AugmentationConfig().build(PreprocessConfig())):
        with pytest.raises(ValueError, match=r"preprocess\.input_size: is None; set it"):
            build()


def test_folder_gives_images_and_labels(shapes):
    transform = PreprocessConfig(input_size=32).build()
    dataset = open_image_folder(shapes, "train", transform)
    assert dataset.class_names == ("circle", "square", "triangle")
    assert len(dataset) == 9
    image, label = dataset[3]
    assert label == 1
    assert torch.equal(
        image, transform(Image.fromarray(draw_scene(ShapesConfig(num_classes=3, image_size=32), 1).image))
    )
    assert [dataset[i][1] for i in range(9)] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_augmented_folder(shapes):
    transform = AugmentationConfig().build(PreprocessConfig(input_size=32))
    dataset = AugmentedDataset(open_image_folder(shapes, "train", transform), seed=0)
    first, label = dataset[SampleKey(0, 8)]
    assert label == 2
    assert torch.equal(first, dataset[SampleKey(0, 8)][0])
    assert not torch.equal(first, dataset[SampleKey(1, 8)][0])


def test_labels_follow_the_expected_classes(shapes):
    dataset = open_image_folder(
        shapes, "val", PreprocessConfig(input_size=32).build(), ["triangle", "circle", "square"]
    )
    assert dataset.class_names == ("triangle", "circle", "square")
    assert {path.split("/")[-2]: label for path, label in dataset.samples} == {"triangle": 0, "circle": 1, "square": 2}


def test_other_classes_than_expected_are_named(shapes):
    with pytest.raises(ValueError, match="'heart' missing; 'square', 'triangle' not expected"):
        open_image_folder(shapes, "val", PreprocessConfig(input_size=32).build(), ["circle", "heart"])


def test_folders_that_hold_no_dataset_are_refused(tmp_path):
    transform = PreprocessConfig(input_size=32).build()
    with pytest.raises(ValueError, match="train' is no folder"):
        open_image_folder(tmp_path, "train", transform)
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="no class folders"):
        open_image_folder(tmp_path, "train", transform)
    for name in "abcdefghijklmnop":
        (tmp_path / "train" / name).mkdir()
    picture(8, 8).save(tmp_path / "train" / "a" / "0.png")
    with pytest.raises(ValueError, match=r"15 of 16 class folders hold no image: 'b', .*'k' and 5 more"):
        open_image_folder(tmp_path, "train", transform)


def test_a_broken_image_is_named(tmp_path):
    folder = tmp_path / "train" / "cat"
    folder.mkdir(parents=True)
    (folder / "broken.jpg").write_bytes(b"no image")
    dataset = open_image_folder(tmp_path, "train", PreprocessConfig(input_size=32).build())
    with pytest.raises(ImageError, match=r"train/cat/broken\.jpg"):
        dataset[0]
