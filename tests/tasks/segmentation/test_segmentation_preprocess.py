"""Pre-processing and augmentation of images with labels: what the official release does."""

import colorsys
import gzip
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from parity import DATA, load_case, reference_input
from piip.batches import collate_images
from piip.config import from_dict, to_dict
from piip.images import read_image
from piip.sampling import seeded
from piip.tasks.segmentation.augmentation import (
    ColourConfig,
    SegmentationAugmentationConfig,
    SegmentationPreprocessConfig,
)
from piip.tasks.segmentation.data import prepare
from piip.tasks.segmentation.structures import IGNORED
from piip.tasks.segmentation.transforms import (
    PadToSquare,
    RandomColours,
    RandomCropOfClasses,
    RandomResize,
    ResizeShortSide,
    _saturate,
)

PIPELINES = json.loads(gzip.decompress((DATA / "pipelines_segmentation.json.gz").read_bytes()))
PLAIN = SegmentationPreprocessConfig(short_side=32, mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3)


def test_pixels_are_the_official_ones(tmp_path):
    case, arrays = load_case("pipeline_seg_512")
    for number, expected in enumerate(case["images"]):
        noise = reference_input((1, 3, expected["h"], expected["w"]), expected["seed"])[0].double()
        bgr = ((noise + 2) / 4 * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        raw = arrays[f"raw_uint8.{number}"]
        assert (bgr.reshape(-1)[:: case["outputs"][f"raw_uint8.{number}"]["stride"]] == raw).all()
        Image.fromarray(np.ascontiguousarray(bgr[..., ::-1])).save(tmp_path / "image.png")
        batch = collate_images(
            [prepare(read_image(tmp_path / "image.png"), SegmentationPreprocessConfig().build(), "it")]
        )
        meta = expected["meta"]
        assert list(batch.pixels.shape[1:]) == expected["tensor_shape"]
        assert batch.sizes == (tuple(meta["img_shape"][:2]),)
        assert batch.original_sizes == (tuple(meta["ori_shape"][:2]),)
        stride = case["outputs"][f"img.{number}"]["stride"]
        pixels = batch.pixels[0].reshape(-1)[::stride].numpy()
        assert np.abs(pixels - arrays[f"img.{number}"].reshape(-1)).max() < 1e-6
        assert batch.pixels.double().mean().item() == pytest.approx(case["outputs"][f"img.{number}"]["mean"], abs=1e-7)


@pytest.mark.parametrize("name", PIPELINES)
def test_the_defaults_say_what_the_official_pipelines_do(name):
    train = {step["type"]: step for step in PIPELINES[name]["train"]}
    assert list(train) == [
        *("LoadImageFromFile", "LoadAnnotations", "Resize", "RandomCrop", "RandomFlip", "PhotoMetricDistortion"),
        *("Normalize", "Pad", "DefaultFormatBundle", "Collect"),
    ]
    test = PIPELINES[name]["test"][1]
    preprocess = SegmentationPreprocessConfig()
    resize, crop, flip, colours, to_float, normalise, pad = (
        SegmentationAugmentationConfig().build(preprocess).transforms
    )
    assert resize.scale == tuple(train["Resize"]["img_scale"]) == tuple(test["img_scale"])
    assert resize.factors == tuple(train["Resize"]["ratio_range"])
    assert [crop.size, crop.size] == train["RandomCrop"]["crop_size"]
    assert crop.class_limit == train["RandomCrop"]["cat_max_ratio"]
    assert isinstance(flip, v2.RandomHorizontalFlip)
    assert flip.p == train["RandomFlip"]["prob"]
    assert set(train["PhotoMetricDistortion"]) == {"type"}  # its own defaults, which ours are
    assert isinstance(colours, RandomColours)
    assert to_float.dtype is torch.float32
    for field in ("mean", "std"):
        assert getattr(normalise, field) == pytest.approx(train["Normalize"][field])
        assert getattr(normalise, field) == pytest.approx(test["transforms"][2][field])
    assert [pad.size, pad.size] == train["Pad"]["size"]
    assert (train["Pad"]["pad_val"], train["Pad"]["seg_pad_val"]) == (0, IGNORED)
    assert test["transforms"][0] == {
        "type": "SETR_Resize",
        "keep_ratio": True,
        "crop_size": [preprocess.short_side] * 2,
        "setr_multi_scale": True,
    }


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40))
def test_the_short_side_is_what_it_is_made(height, width, short_side):
    image = tv_tensors.Image(torch.zeros(3, height, width, dtype=torch.uint8))
    resized = ResizeShortSide(short_side)(image).shape[-2:]
    assert min(resized) == short_side
    assert max(resized) == pytest.approx(short_side * max(height, width) / min(height, width), abs=0.51)


def scene(size=(40, 60), seed=0):
    """Stripes of five labels, a tenth of them ignored, in an image that has its labels as the red value."""
    generator = np.random.default_rng(seed)
    labels = np.sort(generator.integers(5, size=size[1])).astype(np.uint8)[None].repeat(size[0], axis=0)
    labels[: size[0] // 10] = IGNORED
    image = np.zeros((3, *size), dtype=np.uint8)
    image[0] = np.where(labels == IGNORED, 250, 40 * labels)
    return tv_tensors.Image(torch.from_numpy(image)), tv_tensors.Mask(torch.from_numpy(labels)[None])


@pytest.mark.parametrize("seed", range(20))
def test_labels_follow_the_image(seed):
    with seeded("test", seed):
        image, labels = SegmentationAugmentationConfig(colours=None).build(PLAIN)(*scene(seed=seed))
    assert image.shape == (3, 32, 32)
    assert image.dtype == torch.float32
    assert labels.shape == (1, 32, 32)
    assert labels.dtype == torch.uint8
    red = torch.where(labels[0] == IGNORED, 250.0, 40.0 * labels[0])
    inside = (image[0] - red).abs() < 0.5
    padding = (labels[0] == IGNORED) & (image == 0).all(dim=0)
    # Colours are mixed at the edges of the stripes, and only there.
    assert (inside | padding).float().mean() > 0.8
    assert torch.equal(labels.unique(), torch.tensor(sorted(set(labels.flatten().tolist())), dtype=torch.uint8))
    assert set(labels.flatten().tolist()) <= {0, 1, 2, 3, 4, IGNORED}


def test_draws_depend_on_the_process_wide_generator_alone():
    transform = SegmentationAugmentationConfig().build(PLAIN)
    results = []
    for key in (1, *range(1, 10)):
        with seeded("test", key):
            results.append(transform(*scene()))
    (first, first_labels), (again, again_labels), *others = results
    assert torch.equal(first, again)
    assert torch.equal(first_labels, again_labels)
    assert sum(not torch.equal(first, other) for other, _ in others) == len(others)


def test_sizes_cover_their_range():
    torch.manual_seed(0)
    image, labels = scene()
    resize = RandomResize((128, 32), (0.5, 2.0))
    sizes = [resize(image, labels)[1].shape[-2:] for _ in range(200)]
    assert {min(size) for size in sizes} == set(range(16, 64))
    assert all(max(size) == pytest.approx(1.5 * min(size), abs=0.8) for size in sizes)
    long_image, long_labels = scene((10, 100))
    assert all(resize(long_image, long_labels)[0].shape[-1] <= 256 for _ in range(50))


def test_crops_have_more_than_one_class_where_they_can():
    torch.manual_seed(0)
    labels = torch.zeros(1, 40, 200, dtype=torch.uint8)
    labels[..., 190:] = 1
    labels[:, 30:] = IGNORED
    image = tv_tensors.Image(torch.zeros(3, 40, 200, dtype=torch.uint8))
    shares = {}
    for limit in (1.0, 0.75):
        crops = [RandomCropOfClasses(20, limit)(image, tv_tensors.Mask(labels))[1] for _ in range(300)]
        assert all(crop.shape == (1, 20, 20) for crop in crops)
        mixed = [0.25 < (crop == 1).sum() / (crop != IGNORED).sum() < 0.75 for crop in crops]
        shares[limit] = sum(mixed) / len(crops)
    assert shares[1.0] < 0.06
    # Five of 181 columns have between a quarter and half of the other class; of eleven places, one is it.
    assert shares[0.75] == pytest.approx(1 - (1 - 5 / 181) ** 11, abs=0.08)


def test_one_class_or_none_is_no_mixture():
    crop = RandomCropOfClasses(4, 0.75)
    assert not crop._is_mixed(torch.full((1, 4, 4), IGNORED, dtype=torch.uint8))
    assert not crop._is_mixed(torch.zeros(1, 4, 4, dtype=torch.uint8))
    assert crop._is_mixed(torch.tensor([[[0, 0, 1, IGNORED]]], dtype=torch.uint8))
    assert not crop._is_mixed(torch.tensor([[[0, 0, 0, 1]]], dtype=torch.uint8))  # as many as the limit are too many


def test_small_images_are_padded_with_what_is_ignored():
    image, labels = scene((8, 12))
    padded, labelled = PadToSquare(16)(image, labels)
    assert torch.equal(padded[:, :8, :12], image)
    assert (padded[:, 8:] == 0).all()
    assert torch.equal(labelled[:, :8, :12], labels)
    assert (labelled[:, 8:] == IGNORED).all()
    assert (labelled[..., 12:] == IGNORED).all()


@given(st.tuples(*[st.integers(0, 255)] * 3), st.floats(0, 3))
def test_saturation_is_that_of_the_colour_model(colour, factor):
    found = _saturate(torch.tensor(colour, dtype=torch.uint8)[:, None, None], factor)[:, 0, 0].tolist()
    hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in colour))
    expected = colorsys.hsv_to_rgb(hue, min(1.0, saturation * factor), value)
    assert found == pytest.approx([255 * part for part in expected], abs=0.501)


def test_colours_change_as_far_as_they_may():
    torch.manual_seed(0)
    image = tv_tensors.Image(torch.full((3, 4, 4), 100, dtype=torch.uint8))
    labels = tv_tensors.Mask(torch.zeros(1, 4, 4, dtype=torch.uint8))
    found = []
    for _ in range(2000):
        changed, same = RandomColours(32.0, (0.5, 1.5), (0.5, 1.5), 0.1)(image, labels)
        assert torch.equal(same, labels)
        found.append(int(changed[0, 0, 0]))
    assert found.count(100) == pytest.approx(500, abs=80)  # neither brightness nor contrast
    assert 34 <= min(found) < 50
    assert 180 < max(found) <= 198
    grey = RandomColours(0.0, (1.0, 1.0), (0.0, 2.0), 0.5)(image, labels)[0]
    assert torch.equal(grey, image)
    turned = {
        tuple(RandomColours(0.0, (1.0, 1.0), (1.0, 1.0), 0.1)(red(), labels)[0][:, 0, 0].tolist()) for _ in range(300)
    }
    assert all(colour[0] == 200 for colour in turned)  # a tenth of the circle leaves red the strongest
    assert max(max(colour[1:]) for colour in turned) == pytest.approx(200 * 0.6, abs=3)


def red():
    image = torch.zeros(3, 1, 1, dtype=torch.uint8)
    image[0] = 200
    return tv_tensors.Image(image)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (SegmentationPreprocessConfig, "short_side", 0),
        (SegmentationPreprocessConfig, "std", (0.0, 1.0, 1.0)),
        (SegmentationAugmentationConfig, "factors", (0.0, 1.0)),
        (SegmentationAugmentationConfig, "factors", (2.0, 1.0)),
        (SegmentationAugmentationConfig, "max_ratio", 0.5),
        (SegmentationAugmentationConfig, "class_limit", 0.0),
        (SegmentationAugmentationConfig, "hflip", 1.5),
        (ColourConfig, "brightness", 256.0),
        (ColourConfig, "contrast", (1.5, 0.5)),
        (ColourConfig, "saturation", (-1.0, 1.0)),
        (ColourConfig, "hue", 0.6),
    ],
)
def test_impossible_configurations_are_refused(kind, field, value):
    with pytest.raises(ValueError, match=rf"{field}=") as caught:
        kind(**{field: value})
    assert str(value) in str(caught.value)


def test_configurations_survive_json():
    for config in (
        SegmentationPreprocessConfig(short_side=896),
        SegmentationAugmentationConfig(),
        SegmentationAugmentationConfig(colours=None),
    ):
        assert from_dict(type(config), json.loads(json.dumps(to_dict(config)))) == config
