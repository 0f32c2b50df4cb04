"""DINO as a whole: any batch, any classes, any precision."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from piip.batches import ImageBatch
from piip.config import from_dict, to_dict
from piip.tasks.detection.dino import DINO, DenoisingConfig, DINOConfig, TermWeights, TransformerConfig
from piip.tasks.detection.structures import Detections, Target
from tiny_detector import target, tiny_batch
from tiny_dino import tiny_dino
from tiny_models import randomised

LOSSES = {f"{layer}loss_{term}" for layer in ("interm_", "d0.", "", "d0.dn_", "dn_") for term in ("cls", "bbox", "iou")}
BATCH = tiny_batch((96, 100), (80, 128))
TARGETS = [target((10, 10, 60, 60), (20, 5, 90, 90), labels=(2, 0)), target((30, 30, 70, 50), labels=(1,))]


def detector(seed: int = 0, **changes) -> DINO:
    torch.manual_seed(seed)
    return tiny_dino(**changes).build()


def find(model: DINO, batch=BATCH) -> list[Detections]:
    with torch.no_grad():
        return model.eval()(batch)


def total(model: DINO, targets: list[Target], batch=BATCH) -> Tensor:
    losses = model.train()(batch, targets)
    assert set(losses) == LOSSES
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize(
    "targets",
    [
        TARGETS,
        [target._replace(masks=None) for target in TARGETS],
        [TARGETS[0], target()],
        [target(), target()],
        [target((50, 50, 51, 51)), target((0, 0, 100, 96))],
        [target((50, 50, 50, 60), (7, 7, 7, 7)), target((10, 10, 40, 40))],
        [target(*((x, x, x + 20, x + 10) for x in range(30))), target((10, 10, 40, 40))],
    ],
    ids=["objects", "without masks", "an image without", "none at all", "one pixel", "empty boxes", "too many"],
)
def test_losses_are_finite_and_reach_every_parameter(targets: list[Target]) -> None:
    model = detector()
    loss = total(model, targets)
    loss.backward()
    assert loss.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_detections() -> None:
    model = randomised(detector(max_detections=25))
    for own, image_size in zip(find(model), [(192, 200), (160, 256)], strict=True):
        assert own.image_size == image_size
        height, width = image_size
        assert own.boxes.shape == (25, 4)
        assert (own.boxes >= 0).all()
        assert (own.boxes <= torch.tensor([width, height, width, height])).all()
        assert torch.equal(own.scores, own.scores.sort(descending=True).values)
        assert set(own.labels.tolist()) <= {0, 1, 2}
        assert own.mask_probs is None


def test_no_more_is_found_than_there_are_queries_and_classes() -> None:
    assert [len(own.boxes) for own in find(detector(num_queries=7))] == [21, 21]


def test_small_images_have_fewer_queries_than_the_model() -> None:
    """Three maps of 8 x 8, 4 x 4 and 2 x 2 cells, and 900 queries."""
    model = detector(num_queries=900)
    small = tiny_batch((64, 64), padded=(64, 64))
    assert [len(own.boxes) for own in find(model, small)] == [84 * 3]
    total(model, [target((10, 10, 40, 40))], small).backward()
    assert model.decoder.queries.weight.grad is not None


@torch.no_grad()
def test_images_of_a_batch_do_not_see_each_other() -> None:
    """Nor do they see their padding, behind the backbone."""
    model = randomised(detector()).eval()
    together = find(model)
    for image, own in enumerate(together):
        alone = ImageBatch(*(part[image : image + 1] for part in BATCH[:3]))
        (expected,) = find(model, alone)
        torch.testing.assert_close(own.boxes, expected.boxes, rtol=0, atol=1e-3)
        torch.testing.assert_close(own.scores, expected.scores, rtol=0, atol=1e-5)


@torch.no_grad()
def test_features_of_padding_have_no_part_in_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomised(detector()).eval()
    images = tiny_batch((64, 128), padded=(96, 128))
    maps = model.neck(model.backbone(images.pixels))
    found = []
    for value in (0.0, 7.0):
        changed = [one.clone() for one in maps]
        for one in changed:
            one[:, :, -(-one.shape[2] * 64 // 96) :] = value
        monkeypatch.setattr(model.neck, "forward", lambda features, changed=changed: changed)
        found.append(find(model, images)[0])
    assert torch.equal(found[0].boxes, found[1].boxes)
    assert torch.equal(found[0].scores, found[1].scores)


def test_at_the_scale_of_the_network_where_the_original_was_as_large() -> None:
    model = randomised(detector())
    large, small = find(model), find(model, BATCH._replace(original_sizes=BATCH.sizes))
    for own, other in zip(large, small, strict=True):
        torch.testing.assert_close(own.boxes, other.boxes * 2)
        assert own.image_size == tuple(2 * side for side in other.image_size)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_finds_boxes_in_float32(dtype: torch.dtype) -> None:
    model = detector()
    with torch.autocast("cpu", dtype=dtype):
        loss = total(model, TARGETS)
        found = find(model)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert all(own.boxes.dtype == own.scores.dtype == torch.float32 for own in found)


def test_a_few_steps_learn_an_image() -> None:
    model = detector()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        loss = total(model, TARGETS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_a_model_that_has_diverged_has_losses_that_tell() -> None:
    model = detector()
    with torch.no_grad():
        model.decoder.norm.weight.fill_(torch.nan)
    assert total(model, TARGETS).isnan()


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([TARGETS[0]], "targets: 1, but the batch has 2 images"),
        ([TARGETS[0]._replace(labels=torch.tensor([1])), TARGETS[1]], r"targets\[0\]: expected boxes \(N, 4\)"),
        (
            [TARGETS[0], TARGETS[1]._replace(boxes=torch.zeros(1, 5))],
            r"targets\[1\]: expected .* got a torch\.float32 tensor of shape \(1, 5\) and",
        ),
        ([TARGETS[0], TARGETS[1]._replace(labels=torch.zeros(1))], r"targets\[1\]: expected .* labels \(N,\), int64;"),
        ([TARGETS[0], TARGETS[1]._replace(boxes=[[0, 0, 9, 9]])], r"targets\[1\]\.boxes: expected a tensor; got \[\["),
        ([TARGETS[0]._asdict(), TARGETS[1]], r"targets\[0\]: expected a Target; got a dict"),
        (torch.zeros(2, 4), r"targets: expected a list of a Target for each image; got a torch\.float32 tensor"),
    ],
)
def test_targets_that_do_not_fit(targets: list[Target], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detector()(BATCH, targets)


def test_a_tensor_is_no_batch() -> None:
    with pytest.raises(ValueError, match=r"images: expected an ImageBatch, which ImageBatch\.of makes of a tensor"):
        detector()(BATCH.pixels)


def test_other_classes_keep_all_that_fits() -> None:
    model = detector(class_names=("cat", "dog", "bird")).eval()
    other = model.with_classes(("car", "dog"))
    assert other.config == replace(model.config, num_classes=2, class_names=("car", "dog"))
    assert not other.training
    old, new = model.state_dict(), other.state_dict()
    layers = ("selection.classifier", "decoder.classifiers.0", "decoder.classifiers.1")
    of_classes = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert set(other.class_tensors) == of_classes | {"denoising.label_embed.weight"}
    assert all(torch.equal(old[name], new[name]) for name in old if name not in other.class_tensors)
    assert all(torch.equal(old[name][1], new[name][1]) for name in other.class_tensors)
    assert not torch.equal(old["denoising.label_embed.weight"][0], new["denoising.label_embed.weight"][0])
    assert len(find(other)) == 2
    assert model.with_classes(("cat", "dog", "bird")) is model


def test_one_class() -> None:
    model = detector(num_classes=1)
    total(model, [target((10, 10, 60, 60)), target()]).backward()
    assert len(find(model)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "num_classes: a detector needs at least one class"),
        ({"class_names": ("a", "b")}, "class_names: 2 names, but num_classes is 3"),
        ({"num_queries": 0}, "num_queries: expected at least 1, got 0"),
        ({"max_detections": 0}, "max_detections: expected at least 1, got 0"),
        ({"num_queries": "many"}, "num_queries: expected int, got 'many'"),
    ],
)
def test_impossible_models_are_refused(changes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_dino(**changes)


@pytest.mark.parametrize(
    ("part", "settings", "message"),
    [
        (
            TransformerConfig,
            {"embed_dim": 100},
            r"transformer\.embed_dim: .* num_heads \(8\) and of 32",
        ),
        (TransformerConfig, {"num_heads": 5}, r"transformer\.embed_dim: .* num_heads \(5\)"),
        (TransformerConfig, {"decoder_layers": 0}, r"transformer\.decoder_layers: expected at least 1, got 0"),
        (TransformerConfig, {"encoder_layers": -1}, r"transformer\.encoder_layers: expected 0 or more, got -1"),
        (DenoisingConfig, {"num_queries": 0}, r"denoising\.num_queries: expected at least 1, got 0"),
        (DenoisingConfig, {"label_noise": 2.5}, r"denoising\.label_noise: expected a number from 0 to 2, got 2\.5"),
        (DenoisingConfig, {"box_noise": -1}, r"denoising\.box_noise: expected 0 or more, got -1\.0"),
        (TermWeights, {"label": -1.0}, r"weights\.label: expected 0 or more, got -1\.0"),
    ],
)
def test_impossible_parts_are_refused(part: type, settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        part(**settings)


def test_fewer_maps_than_the_backbone_gives() -> None:
    with pytest.raises(ValueError, match=r"transformer\.num_levels: 1, but the backbone gives 2 maps"):
        detector(transformer=TransformerConfig(embed_dim=64, num_levels=1))


def test_configuration_and_weights_come_back(tmp_path: Path) -> None:
    model = randomised(detector())
    assert from_dict(DINOConfig, to_dict(model.config)) == model.config
    model.save_pretrained(tmp_path)
    loaded = DINO.from_pretrained(tmp_path)
    assert loaded.config == model.config
    for own, other in zip(find(model), find(loaded), strict=True):
        assert torch.equal(own.boxes, other.boxes)
        assert torch.equal(own.scores, other.scores)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_weights_of_any_type_predict(dtype: torch.dtype) -> None:
    model, image = randomised(detector()), torch.rand(3, 80, 100, generator=torch.Generator().manual_seed(0))
    (expected,) = model.predict(image, threshold=0.0)
    (found,) = model.to(dtype).predict(image, threshold=0.0)
    assert found.boxes.isfinite().all()
    assert len(found.scores) == len(expected.scores) > 0
    tolerance = 1e-4 if dtype == torch.float64 else 0.1
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=tolerance)
