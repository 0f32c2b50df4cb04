"""Mask R-CNN as a whole: any batch, any classes, any precision."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from piip.batches import ImageBatch
from piip.config import from_dict, to_dict
from piip.tasks.detection.mask_rcnn.box_head import BoxHeadConfig
from piip.tasks.detection.mask_rcnn.model import MaskRCNN, MaskRCNNConfig
from piip.tasks.detection.mask_rcnn.rpn import Proposals
from piip.tasks.detection.masks import paste_masks
from piip.tasks.detection.structures import Detections, Target
from tiny_detector import target, tiny_batch, tiny_detector
from tiny_models import randomised

LOSSES = {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask"}
BATCH = tiny_batch((96, 100), (80, 128))
TARGETS = [target((10, 10, 60, 60), (20, 5, 90, 90), labels=(2, 0)), target((30, 30, 70, 50), labels=(1,))]


def detector(seed: int = 0, **changes) -> MaskRCNN:
    torch.manual_seed(seed)
    return tiny_detector(**changes).build()


def find(model: MaskRCNN, batch=BATCH) -> list[Detections]:
    with torch.no_grad():
        return model.eval()(batch)


def total(model: MaskRCNN, targets: list[Target], batch=BATCH) -> Tensor:
    losses = model.train()(batch, targets)
    assert set(losses) == LOSSES
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize(
    "targets",
    [
        TARGETS,
        [TARGETS[0], target()],
        [target(), target()],
        [target((50, 50, 51, 51)), target((0, 0, 100, 96))],
        [TARGETS[0]._replace(has_mask=torch.tensor([False, True])), TARGETS[1]],
        [own._replace(has_mask=torch.zeros(len(own.labels), dtype=torch.bool)) for own in TARGETS],
    ],
    ids=["objects", "an image without", "none at all", "one pixel", "an unknown mask", "no mask"],
)
def test_losses_are_finite_and_reach_every_parameter(targets: list[Target]) -> None:
    model = detector()
    loss = total(model, targets)
    loss.backward()
    assert loss.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_objects_without_a_mask_teach_all_but_the_mask_head() -> None:
    model = detector()

    def losses(targets: list[Target]) -> dict[str, Tensor]:
        torch.manual_seed(1)
        return model.train()(BATCH, targets)

    every = losses(TARGETS)
    first = TARGETS[0]
    unknown = [first._replace(masks=first.masks.clone(), has_mask=torch.tensor([True, False])), TARGETS[1]]
    some = losses(unknown)
    unknown[0].masks[1] = True  # whatever stands there
    again = losses(unknown)
    for name in LOSSES - {"loss_mask"}:
        assert torch.equal(every[name], some[name])
    assert torch.equal(some["loss_mask"], again["loss_mask"])
    assert not torch.equal(every["loss_mask"], some["loss_mask"])
    known = [first._replace(has_mask=torch.tensor([True, True])), TARGETS[1]]
    assert torch.equal(every["loss_mask"], losses(known)["loss_mask"])
    none = losses([own._replace(has_mask=torch.zeros(len(own.labels)) > 0) for own in TARGETS])
    assert none["loss_mask"] == 0


def test_detections() -> None:
    model = randomised(detector(box_head=BoxHeadConfig(hidden_dim=64, score_threshold=0.0)))
    found = find(model)
    assert [own.image_size for own in found] == [(192, 200), (160, 256)]
    for own in found:
        height, width = own.image_size
        count = len(own.boxes)
        assert count == 100
        assert own.boxes.shape == (count, 4)
        assert (own.boxes >= 0).all()
        assert (own.boxes <= torch.tensor([width, height, width, height])).all()
        assert torch.equal(own.scores, own.scores.sort(descending=True).values)
        assert set(own.labels.tolist()) <= {0, 1, 2}
        assert own.mask_probs is not None
        assert own.mask_probs.shape == (count, 28, 28)
        assert paste_masks(own.mask_probs, own.boxes, own.image_size).any()


def test_nothing_is_found_above_a_high_threshold() -> None:
    for own in find(detector(box_head=BoxHeadConfig(hidden_dim=64, score_threshold=0.99))):
        assert own.boxes.shape == (0, 4)
        assert own.mask_probs is not None
        assert own.mask_probs.shape == (0, 28, 28)


@torch.no_grad()
def test_images_of_a_batch_do_not_see_each_other() -> None:
    model = detector().eval()
    for layer, std in ((model.rpn.objectness, 0.3), (model.box_head.classifier, 0.3), (model.box_head.regressor, 0.1)):
        layer.weight.normal_(std=std)  # scores that differ by more than rounding
    features = model.fpn(model.backbone(BATCH.pixels))
    together = model.detect(BATCH, features, propose(model, features, BATCH))
    for image, own in enumerate(together):
        alone = ImageBatch(*(part[image : image + 1] for part in BATCH[:3]))
        own_features = [feature[image : image + 1] for feature in features]
        (expected,) = model.detect(alone, own_features, propose(model, own_features, alone))
        assert len(own.boxes) == len(expected.boxes) > 0
        assert own.image_size == expected.image_size
        torch.testing.assert_close(own.boxes, expected.boxes, rtol=0, atol=1e-3)
        torch.testing.assert_close(own.scores, expected.scores, rtol=0, atol=1e-5)


def propose(model: MaskRCNN, features: Sequence[Tensor], batch: ImageBatch) -> list[Proposals]:
    return model.rpn.propose(model.rpn(features), batch.sizes, model.config.rpn.proposals)


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
    assert all(own.boxes.dtype == own.scores.dtype == own.mask_probs.dtype == torch.float32 for own in found)


def test_a_few_steps_learn_an_image() -> None:
    model = detector()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = total(model, TARGETS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([TARGETS[0]], "targets: 1, but the batch has 2 images"),
        ([TARGETS[0], TARGETS[1]._replace(masks=None)], r"targets\[1\]\.masks: None"),
        (
            [TARGETS[0], target((1, 1, 5, 5), padded=(80, 128))],
            r"targets\[1\]\.masks: expected \(N, H, W\) = \(1, 96, 128\)",
        ),
        ([TARGETS[0]._replace(labels=torch.tensor([1])), TARGETS[1]], r"targets\[0\]: expected boxes"),
        ([TARGETS[0]._asdict(), TARGETS[1]], r"targets\[0\]: expected a Target; got a dict"),
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
    other = model.with_classes(("car", "bus"))
    assert other.config == replace(model.config, num_classes=2, class_names=("car", "bus"))
    assert not other.training
    old, new = model.state_dict(), other.state_dict()
    assert set(other.class_tensors) == {
        f"{layer}.{kind}"
        for layer in ("box_head.classifier", "box_head.regressor", "mask_head.logits")
        for kind in ("weight", "bias")
    }
    assert all(torch.equal(old[name], new[name]) for name in old if name not in other.class_tensors)
    assert all(old[name].shape != new[name].shape for name in other.class_tensors)
    assert len(find(other)) == 2
    assert model.with_classes(("cat", "dog", "bird")) is model


@pytest.mark.parametrize("names", [("cat", "lynx"), ("cat", "dog", "bird", "lynx")])
def test_other_classes_are_of_the_same_type_and_what_is_frozen_stays_frozen(names) -> None:
    model = detector(class_names=("cat", "dog", "bird")).double()
    model.backbone.requires_grad_(False)
    model.box_head.classifier.bfloat16().requires_grad_(False)
    other = model.with_classes(names)
    for name, parameter in other.named_parameters():
        own = model.get_parameter(name)
        assert parameter.dtype == own.dtype
        assert parameter.requires_grad == (own.requires_grad or name in model.class_tensors)
    assert torch.equal(other.box_head.classifier.weight[0], model.box_head.classifier.weight[0])
    meta = model.to("meta").with_classes(names)
    assert all(tensor.is_meta for tensor in (*meta.parameters(), *meta.buffers()))


def test_a_model_without_names_takes_as_many() -> None:
    model = detector().eval()
    named = model.with_classes(("cat", "dog", "bird"))
    assert model.config.class_names == ()
    assert named.config == replace(model.config, class_names=("cat", "dog", "bird"))
    assert not named.training
    assert all(torch.equal(tensor, named.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_one_class() -> None:
    model = detector(num_classes=1)
    total(model, [target((10, 10, 60, 60)), target()]).backward()
    assert len(find(model)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "num_classes: a detector needs at least one class"),
        ({"class_names": ("a", "b")}, "class_names: 2 names, but num_classes is 3"),
        ({"class_names": ("a", "b", "a")}, "class_names: several classes are called 'a'; give each a name of its own"),
    ],
)
def test_impossible_classes_are_refused(changes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_detector(**changes)


def test_with_no_classes() -> None:
    with pytest.raises(ValueError, match="num_classes: a detector needs at least one class"):
        tiny_detector().with_classes(())


def test_configuration_and_weights_come_back(tmp_path: Path) -> None:
    model = randomised(detector())
    assert from_dict(MaskRCNNConfig, to_dict(model.config)) == model.config
    model.save_pretrained(tmp_path)
    loaded = MaskRCNN.from_pretrained(tmp_path)
    assert loaded.config == model.config
    for own, other in zip(find(model), find(loaded), strict=True):
        assert torch.equal(own.boxes, other.boxes)
        assert torch.equal(own.mask_probs, other.mask_probs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_weights_of_any_type_predict(dtype: torch.dtype) -> None:
    model, image = detector(), torch.rand(3, 80, 100, generator=torch.Generator().manual_seed(0))
    (expected,) = model.predict(image, threshold=0.0)
    (found,) = model.to(dtype).predict(image, threshold=0.0)
    assert found.boxes.isfinite().all()
    assert len(found.scores) == len(expected.scores) > 0
    tolerance = 1e-4 if dtype == torch.float64 else 0.1
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=tolerance)
