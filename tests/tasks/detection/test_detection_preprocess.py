"""Pre-processing and augmentation: to the pixel and to the number what the official release does."""

import gzip
import json
from typing import Any

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
from piip.tasks.detection.augmentation import (
    DetectionPreprocessConfig,
    LargeScaleJitterConfig,
    MultiScaleConfig,
    SingleScaleConfig,
)
from piip.tasks.detection.data import prepare
from piip.tasks.detection.transforms import (
    DropEmptyBoxes,
    RandomCrop,
    ResizeToFit,
    ScaleJitter,
    pixel_grid,
    sampled_pixels,
)

PIPELINES = json.loads(gzip.decompress((DATA / "pipelines_detection.json.gz").read_bytes()))
AUGMENTATIONS = [SingleScaleConfig(), MultiScaleConfig(), LargeScaleJitterConfig(size=96, factors=(0.1, 2.0))]


def official_preprocess(test: dict[str, Any]) -> DetectionPreprocessConfig:
    steps = {step["type"]: step for step in test["transforms"]}
    return DetectionPreprocessConfig(
        scale=tuple(test["img_scale"]),
        mean=tuple(value / 255 for value in steps["Normalize"]["mean"]),
        std=tuple(value / 255 for value in steps["Normalize"]["std"]),
        size_divisor=steps["Pad"]["size_divisor"],
    )


@pytest.mark.parametrize("name", ["pipeline_det_tsb1120", "pipeline_det_dino_sbl1792"])
def test_pixels_are_the_official_ones(name, tmp_path):
    case, arrays = load_case(name)
    config = official_preprocess(case["pipeline"][1])
    for number, expected in enumerate(case["images"]):
        noise = reference_input((1, 3, expected["h"], expected["w"]), expected["seed"])[0].double()
        bgr = ((noise + 2) / 4 * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        raw = arrays[f"raw_uint8.{number}"]
        assert (bgr.reshape(-1)[:: case["outputs"][f"raw_uint8.{number}"]["stride"]] == raw).all()
        Image.fromarray(np.ascontiguousarray(bgr[..., ::-1])).save(tmp_path / "image.png")
        image = prepare(read_image(tmp_path / "image.png"), config.build())
        batch = collate_images([image], config.size_divisor)
        meta = expected["meta"]
        assert list(batch.pixels.shape[1:]) == expected["tensor_shape"]
        assert batch.sizes == (tuple(meta["img_shape"][:2]),)
        assert batch.padded_sizes == (tuple(meta["pad_shape"][:2]),)
        assert batch.original_sizes == (tuple(meta["ori_shape"][:2]),)
        stride = case["outputs"][f"img.{number}"]["stride"]
        pixels = batch.pixels[0].reshape(-1)[::stride].numpy()
        assert np.abs(pixels - arrays[f"img.{number}"].reshape(-1)).max() < 1e-6
        assert batch.pixels.double().mean().item() == pytest.approx(case["outputs"][f"img.{number}"]["mean"], abs=1e-7)


@pytest.mark.parametrize("name", PIPELINES)
def test_configurations_say_what_the_official_training_does(name):
    config = official_preprocess(PIPELINES[name]["test"][1])
    by_type = {step["type"]: step for step in PIPELINES[name]["train"]}
    assert by_type["RandomFlip"]["flip_ratio"] == SingleScaleConfig().hflip == MultiScaleConfig().hflip
    if "AutoAugment" not in by_type:
        resize, flip, *_ = SingleScaleConfig().build(config).transforms
        assert resize.scales == (tuple(by_type["Resize"]["img_scale"]),)
        assert isinstance(flip, v2.RandomHorizontalFlip)
        return
    flip, choice, crop, *_ = MultiScaleConfig().build(config).transforms
    (resized,), (before, cut, after) = by_type["AutoAugment"]["policies"]

    def scales(step):
        return tuple((longer, shorter) for shorter, longer in step["img_scale"])

    assert choice.transforms[0].scales == scales(resized)
    assert [step.scales for step in choice.transforms[1].transforms[::2]] == [scales(before), scales(after)]
    middle = choice.transforms[1].transforms[1]
    assert [middle.min_size, middle.max_size] == cut["crop_size"]
    assert [crop.min_size, crop.max_size] == by_type["RandomCrop"]["crop_size"]
    assert {step["crop_type"] for step in (cut, by_type["RandomCrop"])} == {"absolute_range"}


def rectangles(size=(90, 120), seed=0) -> tuple[np.ndarray, list[list[int]]]:
    """Masks and boxes of five objects."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((5, *size), dtype=bool)
    boxes = []
    for number in range(5):
        x, y = 24 * number + generator.integers(8), generator.integers(size[0] - 20)
        boxes.append([x, y, x + 16, y + 18])
        masks[number, y : y + 18, x : x + 16] = True
    return masks, boxes


def scene(size=(90, 120), seed=0) -> tuple[tv_tensors.Image, dict[str, torch.Tensor], tv_tensors.Mask]:
    """An image whose red channel tells which object a pixel is of (10, 20, ...), its objects and its grid."""
    masks, boxes = rectangles(size, seed)
    image = np.zeros((3, *size), dtype=np.uint8)
    image[0] = (masks * np.arange(10, 60, 10)[:, None, None]).sum(axis=0)
    boxes = tv_tensors.BoundingBoxes(torch.tensor(boxes, dtype=torch.float32), format="XYXY", canvas_size=size)
    return tv_tensors.Image(image), {"boxes": boxes, "labels": torch.arange(5)}, pixel_grid(size)


@pytest.mark.parametrize("config", AUGMENTATIONS, ids=lambda config: type(config).__name__)
@pytest.mark.parametrize("seed", range(12))
def test_boxes_and_masks_follow_the_image(config, seed):
    preprocess = DetectionPreprocessConfig(scale=(160, 100), mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3)
    with seeded("test", seed):
        image, objects, grid = config.build(preprocess)(*scene(seed=seed))
    boxes, labels = objects["boxes"], objects["labels"]
    rows, columns = sampled_pixels(grid)
    masks = torch.from_numpy(rectangles(seed=seed)[0][labels][:, rows[:, None], columns])
    assert image.dtype == torch.float32
    assert len(boxes) == len(labels) == len(masks)
    assert masks.shape[1:] == image.shape[1:] == boxes.canvas_size
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= torch.tensor([image.shape[2], image.shape[1]])).all()
    for box, label, mask in zip(boxes.tolist(), labels.tolist(), masks, strict=True):
        if not mask.any():
            continue
        rows, columns = torch.where(mask)
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        # Each resizing moves the edges of masks by less than a pixel, and the second one enlarges by 2 at most.
        assert [float(edge) for edge in edges] == pytest.approx(box, abs=3)
        if mask.sum() > 50:  # the middle of the object has its own colour in the image
            assert image[0][mask].median().item() == pytest.approx(10 * label + 10, abs=0.01)


@pytest.mark.parametrize("config", AUGMENTATIONS, ids=lambda config: type(config).__name__)
@given(st.integers(1, 150), st.integers(1, 150), st.integers(0, 2**30))
def test_a_grid_takes_the_pixels_that_each_mask_would_have(config, height, width, seed):
    """The official release resizes, flips and crops the masks themselves."""
    transform = config.build(DetectionPreprocessConfig(scale=(160, 100)))
    masks = np.random.default_rng(seed).random((2, height, width)) < 0.5
    image = tv_tensors.Image(torch.zeros(3, height, width, dtype=torch.uint8))
    boxes = tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=(height, width))
    with seeded("test", seed):
        *_, grid = transform(image, {"boxes": boxes}, pixel_grid((height, width)))
    with seeded("test", seed):
        *_, expected = transform(image, {"boxes": boxes}, tv_tensors.Mask(masks.astype(np.uint8)))
    rows, columns = sampled_pixels(grid)
    assert (masks[:, rows[:, None], columns] == expected.numpy()).all()


@pytest.mark.parametrize("config", AUGMENTATIONS, ids=lambda config: type(config).__name__)
def test_draws_depend_on_the_process_wide_generators_alone(config):
    transform = config.build(DetectionPreprocessConfig(scale=(160, 100)))
    results = []
    for key in (1, *range(1, 15)):
        with seeded("test", key):
            results.append(transform(*scene()))
    (first, _, first_grid), (again, _, again_grid), *others = results
    assert torch.equal(first, again)
    assert torch.equal(first_grid, again_grid)
    assert any(other.shape != first.shape or not torch.equal(other, first) for other, *_ in others)


@pytest.mark.parametrize("config", AUGMENTATIONS, ids=lambda config: type(config).__name__)
def test_images_without_objects_and_without_masks(config):
    image, objects, grid = scene()
    nothing = {name: tv_tensors.wrap(value[:0], like=value) for name, value in objects.items()}
    transform = config.build(DetectionPreprocessConfig(scale=(160, 100)))
    changed, remaining, changed_grid = transform(image, nothing, grid)
    assert remaining["boxes"].shape == (0, 4)
    assert remaining["labels"].shape == (0,)
    assert changed_grid.shape == (2, *changed.shape[1:])
    changed, remaining, no_grid = transform(image, objects, None)
    assert no_grid is None
    assert remaining.keys() == objects.keys()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(0, 40), st.integers(0, 2**30))
def test_crops_are_inside(height, width, smallest, more, seed):
    torch.manual_seed(seed)
    crop = RandomCrop(smallest, smallest + more)
    found = crop.make_params([tv_tensors.Image(torch.zeros(3, height, width, dtype=torch.uint8))])
    for start, extent, side in (("top", "height", height), ("left", "width", width)):
        assert min(side, smallest) <= found[extent] <= min(side, smallest + more)
        assert 0 <= found[start] <= side - found[extent]


def test_a_crop_reaches_every_place():
    torch.manual_seed(0)
    image = [tv_tensors.Image(torch.zeros(3, 5, 4, dtype=torch.uint8))]
    found = [RandomCrop(2, 3).make_params(image) for _ in range(500)]
    assert {params["height"] for params in found} == {2, 3}
    assert {params["top"] for params in found} == {0, 1, 2, 3}
    assert {params["left"] for params in found} == {0, 1, 2}


def test_jitter_covers_its_range():
    torch.manual_seed(0)
    sides = [ScaleJitter(100, (0.5, 1.5)).draw_scale() for _ in range(500)]
    assert all(height == width for height, width in sides)
    assert 50 <= min(sides)[0] < 55 < 145 < max(sides)[0] <= 150


def test_empty_boxes_go_with_all_that_belongs_to_them():
    image, objects, grid = scene()
    objects["numbers"] = torch.arange(10, 15)
    objects["boxes"][1, 2] = objects["boxes"][1, 0]
    objects["boxes"][3, 3] = objects["boxes"][3, 1]
    objects["boxes"][4, 2:] = objects["boxes"][4, :2] + 0.1  # under a pixel, which stays
    _, kept, same = DropEmptyBoxes()(image, objects, grid)
    assert same is grid
    assert kept["labels"].tolist() == [0, 2, 4]
    assert kept["numbers"].tolist() == [10, 12, 14]
    assert isinstance(kept["boxes"], tv_tensors.BoundingBoxes)


def test_one_scale_draws_nothing():
    before = torch.get_rng_state()
    ResizeToFit([(160, 100)])(scene()[0])
    assert torch.equal(before, torch.get_rng_state())


def test_no_image_to_transform():
    with pytest.raises(TypeError, match="no tv_tensors"):
        ResizeToFit([(160, 100)])(tv_tensors.Mask(torch.zeros(1, 4, 4)))


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (DetectionPreprocessConfig, "scale", (800, 1333)),
        (DetectionPreprocessConfig, "scale", (0, 0)),
        (DetectionPreprocessConfig, "std", (0.0, 1.0, 1.0)),
        (DetectionPreprocessConfig, "size_divisor", 0),
        (SingleScaleConfig, "hflip", 1.5),
        (MultiScaleConfig, "hflip", -0.5),
        (MultiScaleConfig, "shorter_sides", ()),
        (MultiScaleConfig, "shorter_sides_before_crop", (0.0,)),
        (MultiScaleConfig, "crop", (0.5, 0.4)),
        (MultiScaleConfig, "max_side", 0.0),
        (LargeScaleJitterConfig, "size", 0),
        (LargeScaleJitterConfig, "factors", (0.0, 1.0)),
        (LargeScaleJitterConfig, "hflip", 2.0),
    ],
)
def test_impossible_configurations_are_refused(kind, field, value):
    with pytest.raises(ValueError, match=rf"{field}=") as caught:
        kind(**{field: value})
    assert str(value) in str(caught.value)


def test_configurations_survive_json():
    for config in (DetectionPreprocessConfig(scale=(1120, 672), size_divisor=224), *AUGMENTATIONS):
        assert from_dict(type(config), json.loads(json.dumps(to_dict(config)))) == config
