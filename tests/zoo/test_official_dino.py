"""Our DINO against what the official code computed: inference, denoising queries, matches, losses, gradients."""

from typing import Any

import numpy as np
import pytest
import torch
from official_detectors import check_gradients, image_batch, official_detector
from torch import Tensor

from parity import DATA, assert_matches, load_case
from piip.batches import ImageBatch
from piip.tasks.detection.boxes import numbers
from piip.tasks.detection.dino import DINO, denoising, model
from piip.tasks.detection.dino.denoising import DenoisingQueries, Noise
from piip.tasks.detection.dino.encoder import start_boxes
from piip.tasks.detection.dino.heads import stack_layers
from piip.tasks.detection.dino.matching import Matches
from piip.tasks.detection.structures import Target

INFERENCE = sorted(path.stem for path in DATA.glob("dino_infer_*.json"))
TRAINING = sorted(path.stem for path in DATA.glob("dino_train_*.json"))

# What float32 arithmetic in another order does, by the notes and the `stability` of the cases.
MAPS, CELLS, HIDDEN, LOGITS, BOXES = 1e-5, 1e-5, 1e-4, 1e-4, 1e-5
PIXELS, SCORES = 1e-3, 1e-5


def sizes_of(images: ImageBatch) -> Tensor:
    return numbers([side for height, width in images.sizes for side in (width, height)], images.pixels.device).view(
        -1, 2
    )


@torch.inference_mode()
@pytest.mark.parametrize("name", INFERENCE)
def test_inference(name: str) -> None:
    case, arrays = load_case(name)
    dino, images = official_detector(case).eval(), image_batch(case, rescale=True)
    assert isinstance(dino, DINO)

    features = dino.backbone(images.pixels)
    for prefix, maps in (("backbone", features), ("neck", dino.neck(features))):
        for level, tensor in enumerate(maps):
            assert_matches(tensor, case, arrays, f"{prefix}.{level}", MAPS)

    memory, geometry = dino.encode(images.pixels, sizes_of(images))
    assert_matches(memory, case, arrays, "memory", CELLS)
    assert geometry.padding_mask.sum(1).tolist() == arrays["memory_mask_true_count"].tolist()

    starts = start_boxes(geometry)
    cells = dino.selection.embed(memory, starts)
    logits = dino.selection.classifier(cells).amax(-1)
    selected = dino.selection(memory, geometry, dino.config.num_queries)
    assert_matches(starts.nan_to_num(posinf=1e4), case, arrays, "output_proposals_inf_as_1e4", BOXES)
    assert_matches(cells, case, arrays, "output_memory", CELLS)
    assert_matches(logits, case, arrays, "enc_max_logit", CELLS)
    assert logits.topk(dino.config.num_queries).indices.tolist() == arrays["topk_indices"].tolist()
    assert_matches(selected.logits, case, arrays, "topk_score", CELLS)
    assert_matches(selected.boxes, case, arrays, "topk_anchor", BOXES)

    content = dino.decoder.queries.weight.expand(len(memory), -1, -1)
    hidden, references = dino.decoder(content, selected.boxes, memory, geometry)
    predictions = stack_layers(dino.decoder.predict_all(hidden, references))
    assert_matches(torch.stack(hidden), case, arrays, "hs", HIDDEN)
    stored = torch.from_numpy(arrays["inter_references"])[: len(references)]  # nothing reads the last
    assert (torch.stack(references) - stored).abs().max() <= BOXES
    assert_matches(predictions.logits, case, arrays, "all_cls_scores", LOGITS)
    assert_matches(predictions.boxes, case, arrays, "all_bbox_preds", BOXES)

    for image, found in enumerate(dino(images)):
        assert found.mask_probs is None
        check_detections(found, *(torch.from_numpy(arrays[f"det_{kind}.{image}"]) for kind in ("bboxes", "labels")))


def check_detections(found: Any, expected: Tensor, labels: Tensor) -> None:
    """As a set: of nearly the same score, they may stand in another order."""
    assert len(found.boxes) == len(expected) == 300
    assert (found.scores - expected[:, 4]).abs().max() <= SCORES
    distance = (found.boxes[:, None] - expected[:, :4]).abs().amax(-1)
    distance += 1e6 * (found.labels[:, None] != labels)
    closest, partner = distance.min(1)
    assert closest.max() <= PIXELS
    assert (found.scores - expected[partner, 4]).abs().max() <= SCORES
    assert len(partner.unique()) == len(expected)


def targets_of(case: dict[str, Any], arrays: dict[str, np.ndarray]) -> list[Target]:
    return [
        Target(torch.from_numpy(arrays[f"gt_bboxes.{image}"]), torch.from_numpy(arrays[f"gt_labels.{image}"]).long())
        for image in range(len(case["img_metas"]))
    ]


class OfficialNoise:
    """The draws of the official code, which has the objects of all images in one row, and none for padding.

    Args:
        counts: objects of each image.
        seed: of the case.
    """

    def __init__(self, counts: list[int], seed: int) -> None:
        self.counts, self.seed = counts, seed

    def __call__(self, shape: tuple[int, ...], num_classes: int, config: Any, device: torch.device) -> Noise:
        groups, total = shape[1], sum(self.counts)
        generator = torch.Generator(device).manual_seed(self.seed)
        is_relabelled = torch.rand(groups * 2 * total, generator=generator) < config.label_noise / 2
        labels = torch.zeros(groups * 2 * total, dtype=torch.int64)
        labels[is_relabelled] = torch.randint(num_classes, (int(is_relabelled.sum()),), generator=generator)
        signs = torch.randint(2, (groups * 2 * total, 4), generator=generator).float() * 2 - 1
        distances = torch.rand((groups * 2 * total, 4), generator=generator).view(groups, 2, total, 4)
        distances[:, 1] += 1
        return Noise(
            self._padded(is_relabelled, shape),
            self._padded(labels, shape),
            self._padded(distances.view(-1, 4) * signs, shape),
        )

    def _padded(self, drawn: Tensor, shape: tuple[int, ...]) -> Tensor:
        drawn = drawn.view(*shape[1:3], -1, *drawn.shape[1:])
        padded = drawn.new_zeros(*shape, *drawn.shape[3:])
        for image, part in enumerate(drawn.split(self.counts, dim=2)):
            padded[image, :, :, : part.shape[2]] = part
        return padded


class Recorder:
    """Keeps the denoising queries, which of them are blocked, and the matches of a step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.queries: DenoisingQueries
        self.blocked: Tensor
        self.matches: Matches
        blocked_pairs, match = model.blocked_pairs, model.match

        def record_blocked(queries: DenoisingQueries, num_others: int) -> Tensor:
            self.queries, self.blocked = queries, blocked_pairs(queries, num_others)
            return self.blocked

        def record_matches(*arguments: Any) -> Matches:
            self.matches = match(*arguments)
            return self.matches

        monkeypatch.setattr(model, "blocked_pairs", record_blocked)
        monkeypatch.setattr(model, "match", record_matches)


@pytest.mark.parametrize("name", TRAINING)
def test_training_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, arrays = load_case(name)
    dino, images, recorder = official_detector(case).train(), image_batch(case, rescale=True), Recorder(monkeypatch)
    targets = targets_of(case, arrays)
    counts = [len(target.boxes) for target in targets]
    monkeypatch.setattr(denoising, "draw_noise", OfficialNoise(counts, case["dn_seed"]))

    losses = dino(images, targets)

    assert isinstance(dino, DINO)
    check_denoising(dino, recorder, case, arrays)
    check_matches(recorder.matches, case, counts, dino.config.num_queries)
    assert set(losses) == set(case["losses"])
    for key, loss in losses.items():
        assert loss.item() == pytest.approx(case["losses"][key], rel=2e-6), key
    total = torch.stack(list(losses.values())).sum()
    assert total.item() == pytest.approx(case["total_loss"], rel=1e-6)
    total.backward()
    check_gradients(dino, case)


def check_denoising(dino: DINO, recorder: Recorder, case: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    queries = recorder.queries
    assert queries.groups == case["num_dn_group"]
    assert queries.boxes.shape[1] == case["pad_size"]
    assert_matches(queries.boxes, case, arrays, "dn_bbox_unact", MAPS)
    labels = torch.from_numpy(arrays["dn_labels"]).long()
    expected = dino.denoising.label_embed.weight[labels.clamp(min=0)] * (labels >= 0)[..., None]
    assert torch.equal(queries.content, expected)
    side = case["dn_attn_mask_shape"][0]
    mask = np.unpackbits(arrays["dn_attn_mask_packed"], axis=1, count=side)
    assert torch.equal(recorder.blocked, torch.from_numpy(mask).bool())


def check_matches(matches: Matches, case: dict[str, Any], counts: list[int], num_queries: int) -> None:
    """The query of each object: the encoder's first, then those of each layer."""
    calls = iter(case["matching"]["calls"])
    for queries, objects in zip(matches.queries, matches.objects, strict=True):
        for image, count in enumerate(counts):
            of_image = torch.div(objects, max(counts), rounding_mode="floor") == image
            order = objects[of_image].argsort()
            assert (objects[of_image][order] - image * max(counts)).tolist() == list(range(count))
            assert (queries[of_image][order] - image * num_queries).tolist() == next(calls)
