"""UperNet as a whole: any batch, any classes, any precision; and that it learns."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from piip.batches import ImageBatch
from piip.config import from_dict, to_dict
from piip.shapes import ShapesConfig, draw_scene
from piip.tasks.segmentation.structures import IGNORED
from piip.tasks.segmentation.upernet import SlidingInference, UperNet, UperNetConfig
from tiny_models import images, randomised
from tiny_segmenter import tiny_batch, tiny_segmenter

BATCH = tiny_batch((96, 100), (80, 128))
SLIDING = SlidingInference(crop=(96, 96), stride=(64, 64), batch_size=3)


def segmenter(seed: int = 0, **changes) -> UperNet:
    torch.manual_seed(seed)
    return tiny_segmenter(**changes).build()


def random_labels(batch: ImageBatch = BATCH) -> Tensor:
    labels = torch.randint(3, (len(batch.pixels), *batch.pixels.shape[-2:]), generator=torch.Generator().manual_seed(0))
    for own, (height, width) in zip(labels, batch.sizes, strict=True):
        own[height:], own[:, width:] = IGNORED, IGNORED
    return labels


def total(model: UperNet, labels: Tensor, batch: ImageBatch = BATCH) -> Tensor:
    losses = model.train()(batch, labels)
    assert set(losses) == {"loss_decode", "loss_auxiliary"}
    return torch.stack(list(losses.values())).sum()


def test_losses_are_finite_and_reach_every_parameter() -> None:
    model = segmenter()
    loss = total(model, random_labels())
    loss.backward()
    assert loss.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_ignored_pixels_are_not_learned_from_but_counted() -> None:
    model = segmenter()
    labels = random_labels()
    half = labels.clone()
    half[:, 48:] = IGNORED
    logits = {}
    model.decode_head.register_forward_hook(lambda _head, _args, out: logits.update(out=out))
    loss = model.train()(BATCH, half)["loss_decode"]
    at_input = F.interpolate(logits["out"], (96, 128), mode="bilinear")
    counted = F.cross_entropy(at_input[:, :, :48], labels[:, :48], ignore_index=IGNORED, reduction="sum")
    torch.testing.assert_close(loss, counted / labels.numel())


def test_nothing_to_learn_from() -> None:
    loss = total(segmenter(), torch.full((2, 96, 128), IGNORED))
    loss.backward()
    assert loss == 0


def test_a_model_without_auxiliary_head() -> None:
    model = segmenter(auxiliary_head=None)
    assert set(model.train()(BATCH, random_labels())) == {"loss_decode"}
    assert not any(name.startswith("auxiliary_head") for name in model.state_dict())
    assert from_dict(UperNetConfig, to_dict(model.config)) == model.config


@pytest.mark.parametrize("changes", [{}, {"inference": SLIDING}])
def test_label_maps_have_the_original_sizes(changes) -> None:
    model = randomised(segmenter(**changes)).eval()
    found = model(BATCH)
    assert [tuple(own.shape) for own in found] == [(192, 200), (160, 256)]
    for own in found:
        assert own.dtype == torch.int64
        assert len(own.unique()) > 1
        assert set(own.unique().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("changes", [{}, {"inference": SLIDING}])
def test_images_of_a_batch_do_not_see_each_other(changes) -> None:
    model = randomised(segmenter(**changes)).eval()
    together = model(BATCH._replace(padded_sizes=BATCH.sizes))
    for number, (height, width) in enumerate(BATCH.sizes):
        pixels = BATCH.pixels[number : number + 1, :, :height, :width]
        (alone,) = model(ImageBatch(pixels, ((height, width),), (BATCH.original_sizes[number],)))
        assert torch.equal(together[number], alone)


def test_evaluation_keeps_no_gradients() -> None:
    model = segmenter(inference=SLIDING).eval()
    with torch.enable_grad():
        assert not any(own.requires_grad for own in model(BATCH))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_has_losses_in_float32(dtype: torch.dtype) -> None:
    model = segmenter(inference=SLIDING)
    with torch.autocast("cpu", dtype=dtype):
        loss = total(model, random_labels())
        found = model.eval()(BATCH)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert [tuple(own.shape) for own in found] == [(192, 200), (160, 256)]


def test_one_image_cannot_be_trained_on_alone() -> None:
    with pytest.raises(ValueError, match="train on at least two images at a time"):
        segmenter().train()(tiny_batch((96, 128)), torch.zeros(1, 96, 128, dtype=torch.int64))


@pytest.mark.parametrize("shape", [(2, 96, 96), (1, 96, 128), (2, 1, 96, 128)])
def test_labels_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"labels: expected one for each pixel of the batch, \(2, 96, 128\)"):
        segmenter()(BATCH, torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(2, 96, 128, dtype=torch.uint8), r"labels: expected .*, int64; got a torch\.uint8 tensor"),
        ([], r"labels: expected a tensor \(B, H, W\); got \[\]"),
    ],
)
def test_what_are_no_labels(labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        segmenter()(BATCH, labels)


def test_a_tensor_is_no_batch() -> None:
    with pytest.raises(ValueError, match=r"images: expected an ImageBatch, which ImageBatch\.of makes of a tensor"):
        segmenter().eval()(BATCH.pixels)


def test_other_classes_keep_all_that_fits() -> None:
    model = randomised(segmenter(class_names=("wall", "sky", "tree"))).eval()
    other = model.with_classes(("sky", "car"))
    assert other.config == replace(model.config, num_classes=2, class_names=("sky", "car"))
    assert not other.training
    old, new = model.state_dict(), other.state_dict()
    heads = ("decode_head", "auxiliary_head")
    assert set(other.class_tensors) == {f"{head}.classifier.{kind}" for head in heads for kind in ("weight", "bias")}
    assert all(torch.equal(old[name], new[name]) for name in old if name not in other.class_tensors)
    for name in other.class_tensors:
        assert torch.equal(new[name][0], old[name][1])
        assert not torch.equal(new[name][1], old[name][0])
    assert model.with_classes(("wall", "sky", "tree")) is model


def test_a_model_without_names_takes_as_many() -> None:
    model = segmenter()
    named = model.with_classes(("a", "b", "c"))
    assert model.config.class_names == ()
    assert named.config.class_names == ("a", "b", "c")
    assert all(torch.equal(tensor, named.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "num_classes: expected from 1 to 255, got 0"),
        ({"class_names": ("a", "b", "a")}, "class_names: several classes are called 'a'"),
        ({"num_classes": 256}, "num_classes: expected from 1 to 255, got 256"),
        ({"class_names": ("a", "b")}, "class_names: 2 names, but num_classes is 3"),
    ],
)
def test_impossible_classes_are_refused(changes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_segmenter(**changes)


def test_a_head_on_a_map_that_is_not_there() -> None:
    config = tiny_segmenter()
    with pytest.raises(ValueError, match=r"auxiliary_head\.level: 4 is none of the backbone's 4 maps"):
        replace(config, auxiliary_head=replace(config.auxiliary_head, level=4))


@pytest.mark.parametrize("changes", [{}, {"inference": SLIDING, "class_names": ("a", "b", "c")}])
def test_configuration_and_weights_come_back(tmp_path: Path, changes) -> None:
    model = randomised(segmenter(**changes))
    total(model, random_labels())  # which moves the running statistics
    assert from_dict(UperNetConfig, to_dict(model.config)) == model.config
    model.save_pretrained(tmp_path)
    loaded = UperNet.from_pretrained(tmp_path)
    assert loaded.config == model.config
    for own, other in zip(model.eval()(BATCH), loaded(BATCH), strict=True):
        assert torch.equal(own, other)


def test_exports() -> None:
    model = randomised(segmenter()).eval()
    pixels = images(1, 3, 96, 128)
    exported = torch.export.export(Logits(model), (pixels,))
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(pixels), model.logits(pixels))


class Logits(torch.nn.Module):
    """What of the model can be one graph."""

    def __init__(self, model: UperNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model.logits(pixels)


def shapes(count: int) -> tuple[ImageBatch, Tensor]:
    """Generated images, and the label of each pixel: 0 for background."""
    config = ShapesConfig(num_classes=2, image_size=96, max_objects=2)
    scenes = [draw_scene(config, number) for number in range(count)]
    pixels = torch.stack([torch.from_numpy(scene.image).permute(2, 0, 1) for scene in scenes]).float() / 255 - 0.5
    labels = torch.zeros(count, 96, 96, dtype=torch.int64)
    for own, scene in zip(labels, scenes, strict=True):
        for mask, label in zip(scene.masks, scene.labels, strict=True):
            own[torch.from_numpy(mask)] = int(label) + 1
    return ImageBatch(pixels, ((96, 96),) * count, ((96, 96),) * count), labels


def mean_iou(found: Tensor, labels: Tensor) -> float:
    ious = []
    for label in range(3):
        own, expected = found == label, labels == label
        ious.append((own & expected).sum() / (own | expected).sum())
    return torch.stack(ious).mean().item()


def test_a_tiny_model_learns_a_few_images_by_heart() -> None:
    model, (batch, labels) = segmenter(), shapes(4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        total(model, labels, batch).backward()
        optimizer.step()
    assert mean_iou(torch.stack(model.eval()(batch)), labels) > 0.9


def test_predictions_in_training_mode_are_refused() -> None:
    model = segmenter().train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with pytest.raises(ValueError, match=r"labels: there are none, .*; call eval\(\) before predicting"):
        model(BATCH)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_weights_of_any_type_predict(dtype: torch.dtype) -> None:
    model, image = randomised(segmenter()), torch.rand(3, 80, 100, generator=torch.Generator().manual_seed(0))
    (expected,) = model.predict(image)
    (found,) = model.to(dtype).predict(image)
    assert found.shape == expected.shape == (80, 100)
    assert (found == expected).mean() > (0.99 if dtype == torch.float64 else 0.9)
