"""Our Mask R-CNN against what the official code computed: inference, losses, assignments, gradients."""

from typing import Any

import numpy as np
import pytest
import torch
from official_detectors import check_gradients, image_batch, official_detector
from torch import Tensor

from parity import DATA, assert_matches, load_case
from piip.rle import runs_to_mask, unpack_runs
from piip.tasks.detection.boxes import resize_factors
from piip.tasks.detection.mask_rcnn import sampling
from piip.tasks.detection.mask_rcnn.box_head import BoxHead, ProposalSamples
from piip.tasks.detection.mask_rcnn.mask_head import mask_targets, of_class
from piip.tasks.detection.mask_rcnn.model import MaskRCNN
from piip.tasks.detection.mask_rcnn.roi_align import pool_regions
from piip.tasks.detection.mask_rcnn.rpn import Proposals
from piip.tasks.detection.mask_rcnn.sampling import SamplerConfig, Samples
from piip.tasks.detection.masks import paste_masks
from piip.tasks.detection.structures import Detections, Target

INFERENCE = sorted(path.stem for path in DATA.glob("maskrcnn_infer_*.json"))
TRAINING = sorted(path.stem for path in DATA.glob("maskrcnn_train_*.json"))

# What float32 arithmetic in another order does, by the notes. Boxes are twice the notes' 1e-3 pixels: noise of 2e-6 on
# the image moves proposals of a case with ConvNeXts by 2.1e-3 (its `stability`).
MAPS, PYRAMID, HEADS = 1e-5, 3e-5, 1e-5
PIXELS, SCORES = 2e-3, 1e-5


def distances(boxes: Tensor, others: Tensor) -> Tensor:
    """By how many pixels the most different corners of each pair differ."""
    return (boxes[:, None] - others).abs().amax(-1)


@torch.inference_mode()
@pytest.mark.parametrize("name", INFERENCE)
def test_inference(name: str) -> None:
    case, arrays = load_case(name)
    model, images = official_detector(case).eval(), image_batch(case, rescale=case.get("rescale", False))
    stored = {key: torch.from_numpy(array) for key, array in arrays.items()}

    features = model.backbone(images.pixels)
    pyramid = model.fpn(features)
    maps = model.rpn(pyramid)
    for prefix, tensors, atol in (
        ("backbone", features, MAPS),
        ("fpn", pyramid, PYRAMID),
        ("rpn_cls", maps.objectness, HEADS),
        ("rpn_reg", maps.deltas, HEADS),
    ):
        for level, tensor in enumerate(tensors):
            assert_matches(tensor, case, arrays, f"{prefix}.{level}", atol)

    proposals = model.rpn.propose(maps, images.sizes, model.config.rpn.proposals)
    for image, own in enumerate(proposals):  # a set: those of nearly the same score may stand in another order
        expected = stored[f"proposals.{image}"]
        assert len(own.boxes) == len(expected) == case["num_proposals"][image]
        distance, partner = distances(own.boxes, expected[:, :4]).min(1)
        assert distance.max() <= PIXELS
        assert len(partner.unique()) == len(expected)
        assert (own.scores - expected[partner, 4]).abs().max() <= SCORES

    strides = model.config.backbone.strides
    regions = pool_regions(pyramid[:4], strides, stored["fixed_rois"], 7)
    outputs = model.box_head(regions)
    assert_matches(regions, case, arrays, "bbox_feats", PYRAMID)
    assert_matches(outputs.logits, case, arrays, "fixed_cls_score", PYRAMID)
    assert_matches(outputs.deltas.flatten(1), case, arrays, "fixed_bbox_pred", HEADS)
    regions = pool_regions(pyramid[:4], strides, stored["mask_rois"], 14)
    assert_matches(regions, case, arrays, "mask_feats", PYRAMID)
    assert_matches(model.mask_head(regions), case, arrays, "fixed_mask_pred", HEADS)

    official_proposals = [
        Proposals(stored[f"proposals.{image}"][:, :4], stored[f"proposals.{image}"][:, 4])
        for image in range(len(proposals))
    ]
    check_detections(model.detect(images, pyramid, official_proposals), case, stored, HEADS)
    # From our own proposals, which are a thousandth of a pixel elsewhere, scores differ by a little more.
    check_detections(model(images), case, stored, 3 * HEADS)
    for image in range(len(proposals)):
        factors = resize_factors(images.original_sizes[image], images.sizes[image], images.pixels.device)
        boxes = stored[f"det_bboxes.{image}"][:, :4] * factors
        region = torch.cat((torch.full_like(boxes[:, :1], image), boxes), 1)
        logits = model.mask_head(pool_regions(pyramid[:4], strides, region, 14))
        own = of_class(logits, stored[f"det_labels.{image}"].long())
        assert_matches(own, case, arrays, f"det_mask_logits.{image}", HEADS)


def check_detections(
    detections: list[Detections], case: dict[str, Any], stored: dict[str, Tensor], atol: float
) -> None:
    changed_pixels = 0
    for image, found in enumerate(detections):
        expected = stored[f"det_bboxes.{image}"]
        assert len(found.boxes) == case["num_detections"][image]
        assert (found.boxes - expected[:, :4]).abs().max() <= PIXELS
        assert (found.scores - expected[:, 4]).abs().max() <= atol
        assert torch.equal(found.labels, stored[f"det_labels.{image}"].long())
        changed_pixels += count_changed_pixels(found, case["masks_rle"][image])
    # Of the tens of thousands at the edges of a hundred masks, a few are 0.5 but for rounding.
    assert changed_pixels <= max(run["mask_pixels_changed"] for run in case["stability"]["runs"])


def count_changed_pixels(found: Detections, runs: list[dict[str, Any]]) -> int:
    assert found.mask_probs is not None
    assert all(run["size"] == list(found.image_size) for run in runs)
    masks = paste_masks(found.mask_probs, found.boxes, found.image_size).numpy()
    expected = np.stack([runs_to_mask(unpack_runs(run["counts"]), found.image_size) for run in runs])
    assert masks.shape == expected.shape
    return int((masks != expected).sum())


def targets_of(case: dict[str, Any], arrays: dict[str, np.ndarray], height: int, width: int) -> list[Target]:
    targets = []
    for image in range(len(case["img_metas"])):
        bits = np.unpackbits(arrays[f"gt_masks_packed.{image}"], axis=1, count=height * width)
        targets.append(
            Target(
                boxes=torch.from_numpy(arrays[f"gt_bboxes.{image}"]),
                labels=torch.from_numpy(arrays[f"gt_labels.{image}"]).long(),
                masks=torch.from_numpy(bits).view(-1, height, width).bool(),
            )
        )
    return targets


class Recorder:
    """Keeps what is matched and sampled, and makes the choice that the cases were computed with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.choices: list[tuple[Tensor, Samples]] = []
        self.proposals: list[ProposalSamples] = []
        sample, sample_proposals = SamplerConfig.sample, BoxHead.sample

        def record(config: SamplerConfig, matches: Tensor) -> Samples:
            self.choices.append((matches, sample(config, matches)))
            return self.choices[-1][1]

        def record_proposals(head: BoxHead, proposals: Tensor, target: Target) -> ProposalSamples:
            self.proposals.append(sample_proposals(head, proposals, target))
            return self.proposals[-1]

        monkeypatch.setattr(sampling, "subsample", lambda candidates, count: candidates[:count])
        monkeypatch.setattr(SamplerConfig, "sample", record)
        monkeypatch.setattr(BoxHead, "sample", record_proposals)


@pytest.mark.parametrize("name", TRAINING)
def test_training_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, arrays = load_case(name)
    model, images, recorder = (
        official_detector(case).train(),
        image_batch(case, rescale=False),
        Recorder(monkeypatch),
    )
    targets = targets_of(case, arrays, *images.pixels.shape[-2:])

    losses = model(images, targets)

    for key, loss in losses.items():
        assert loss.item() == pytest.approx(case["losses"][f"{key}_sum"], rel=2e-6), key
    total = torch.stack(list(losses.values())).sum()
    assert total.item() == pytest.approx(case["total_loss"], rel=1e-6)
    check_assignments(case, recorder, [len(target.boxes) for target in targets])
    check_targets(model, case, arrays, recorder, targets)
    total.backward()
    check_gradients(model, case)


def check_assignments(case: dict[str, Any], recorder: Recorder, num_objects: list[int]) -> None:
    images = len(num_objects)
    by_kind = {"rcnn": recorder.choices[:images], "rpn": recorder.choices[images:]}  # the order in which ours run
    assert all(len(choices) == images for choices in by_kind.values())
    for number, expected in enumerate(case["assignments"]):
        matches, (positives, negatives) = by_kind[expected["kind"]][number % images]
        own_boxes = num_objects[number % images] if expected["kind"] == "rcnn" else 0
        matched = matches[own_boxes:]  # the objects' own boxes are counted after matching
        assert len(matched) == expected["candidates"]
        assert (matched >= 0).sum() == expected["assigned_pos"]
        assert (matched == -1).sum() == expected["assigned_neg"]
        assert (matched == -2).sum() == expected["ignored"]
        assert len(positives) == expected["sampled_pos"]
        assert len(negatives) == expected["sampled_neg"]
        assert positives.tolist() == expected["pos_inds"]
        assert matches[positives].tolist() == expected["pos_gt"]
        assert [negatives[:5].tolist(), negatives[-5:].tolist()] == expected["neg_inds_first_last"]


def check_targets(
    model: MaskRCNN, case: dict[str, Any], arrays: dict[str, np.ndarray], recorder: Recorder, targets: list[Target]
) -> None:
    """The targets of the heads: labels, deltas (zero for background) and masks."""
    samples = recorder.proposals
    labels = torch.cat([own.labels for own in samples])
    assert torch.equal(labels, torch.from_numpy(arrays["rcnn_labels"]).long())
    deltas = torch.zeros(len(labels), 4)
    encode = model.config.box_head.box_coder.encode
    deltas[labels < model.config.num_classes] = torch.cat([encode(own.positive_boxes, own.goals) for own in samples])
    assert_matches(deltas, case, arrays, "rcnn_bbox_targets", 1e-4)
    masks = [
        mask_targets(target.masks, own.objects, own.positive_boxes, 28)
        for own, target in zip(samples, targets, strict=True)
        if target.masks is not None
    ]
    assert_matches(torch.cat(masks), case, arrays, "rcnn_mask_targets", 0)
