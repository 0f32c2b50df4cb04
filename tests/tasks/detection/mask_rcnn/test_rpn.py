"""The region proposal network: which boxes it proposes, and what it learns from."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from piip.tasks.detection.mask_rcnn.matching import BACKGROUND
from piip.tasks.detection.mask_rcnn.rpn import RPN, ProposalConfig, RPNConfig, RPNMaps
from piip.tasks.detection.mask_rcnn.sampling import SamplerConfig
from piip.tasks.detection.structures import Target
from tiny_detector import target
from tiny_models import images

STRIDES = (8, 16)


def rpn(**changes) -> RPN:
    return RPNConfig(**changes).build(4, STRIDES)


def quiet_maps(size: tuple[int, int], num_images: int = 1) -> RPNMaps:
    """Nothing is an object, and no anchor moves."""
    shapes = [(size[0] // stride, size[1] // stride) for stride in STRIDES]
    return RPNMaps(
        tuple(torch.full((num_images, 3, *shape), -9.0) for shape in shapes),
        tuple(torch.zeros(num_images, 12, *shape) for shape in shapes),
    )


def test_the_best_anchor_of_a_cell_becomes_the_first_proposal() -> None:
    maps = quiet_maps((128, 128), num_images=2)
    maps.objectness[0][1, 2, 5, 7] = 4  # image 1, ratio 2, row 5, column 7, stride 8
    maps.deltas[0][1, 8, 5, 7] = 0.5  # x of the third anchor: half its width to the right
    first, second = rpn().propose(maps, [(128, 128), (128, 128)], ProposalConfig())
    width, height = 64 / 2**0.5, 64 * 2**0.5
    x, y = 7 * 8 + width / 2, 5 * 8
    expected = torch.tensor([x - width / 2, y - height / 2, x + width / 2, y + height / 2]).clamp(0, 128)
    torch.testing.assert_close(second.boxes[0], expected)
    assert second.scores[0] == torch.tensor(4.0).sigmoid()
    assert first.scores.max() < 0.001


def test_proposals_are_in_the_image_without_padding_and_not_empty() -> None:
    network, sizes = rpn(), [(100, 90), (128, 128)]
    maps = network([images(2, 4, 16, 16), images(2, 4, 8, 8)])
    for (height, width), (boxes, scores) in zip(sizes, network.propose(maps, sizes, ProposalConfig()), strict=True):
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert torch.equal(scores, scores.sort(descending=True).values)


def test_numbers_of_proposals() -> None:
    network = rpn()
    maps = network([images(1, 4, 16, 16), images(1, 4, 8, 8)])
    (few,) = network.propose(maps, [(128, 128)], ProposalConfig(per_level=3, nms_iou=1.0))
    assert len(few.boxes) == 6
    (fewer,) = network.propose(maps, [(128, 128)], ProposalConfig(count=4))
    assert len(fewer.boxes) == 4
    (large,) = network.propose(maps, [(128, 128)], ProposalConfig(min_size=60))
    assert (large.boxes[:, 2:] - large.boxes[:, :2] > 60).all()


def test_maps_do_not_suppress_each_other() -> None:
    maps = quiet_maps((128, 128))
    maps.objectness[0][0, 1, 8, 8] = 4  # 64 x 64 around (64, 64)
    maps.objectness[1][0, 1, 4, 4] = 3  # 128 x 128 there, shrunk to the same box
    maps.deltas[1][0, 6:8, 4, 4] = -torch.tensor(2.0).log()
    (proposals,) = rpn().propose(maps, [(128, 128)], ProposalConfig())
    torch.testing.assert_close(proposals.boxes[:2], torch.tensor([[32.0, 32, 96, 96]] * 2))


def record_matches(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    matches, sample = [], SamplerConfig.sample

    def recording(self, matched):
        matches.append(matched)
        return sample(self, matched)

    monkeypatch.setattr(SamplerConfig, "sample", recording)
    return matches


def test_only_anchors_in_the_image_with_its_own_padding_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    matches, network, maps = record_matches(monkeypatch), rpn(), quiet_maps((128, 128), num_images=3)
    targets = [target(padded=(128, 128)), target((32, 32, 96, 96), padded=(128, 128))]
    network.loss(maps, [targets[0], targets[1], targets[1]], [(64, 128), (128, 64), (128, 128)])
    empty, half, whole = (matched.split([768, 192])[0].view(16, 16, 3) for matched in matches)
    assert (empty[:8] == BACKGROUND).all()
    assert (empty[8:] < BACKGROUND).all()
    assert (half[:, 8:] < BACKGROUND).all()
    assert (half >= 0).any()  # the best of those that are left
    assert whole[8, 8, 1] == 0


def perfect_maps(network: RPN, goal: Target) -> RPNMaps:
    """Maps that know which anchors overlap the one object enough, and where it is from there."""
    maps = quiet_maps((128, 128))
    for objectness, deltas, anchors in zip(maps.objectness, maps.deltas, network.anchors(maps), strict=True):
        _, count, height, width = objectness.shape
        is_object = (box_iou(anchors, goal.boxes) >= 0.7).view(height, width, count)
        objectness[0] = torch.where(is_object, 99.0, -99.0).permute(2, 0, 1)
        encoded = network.config.box_coder.encode(anchors, goal.boxes.expand_as(anchors))
        deltas[0] = encoded.view(height, width, 4 * count).permute(2, 0, 1)
    return maps


def test_perfect_maps_have_no_loss() -> None:
    network, goal = rpn(), target((30, 30, 90, 100), padded=(128, 128))
    losses = network.loss(perfect_maps(network, goal), [goal], None)
    assert losses["loss_rpn_cls"] < 1e-30
    assert losses["loss_rpn_bbox"] < 1e-6
    wrong = network.loss(perfect_maps(network, goal), [target((10, 10, 70, 80), padded=(128, 128))], None)
    assert wrong["loss_rpn_cls"] > 1
    assert wrong["loss_rpn_bbox"] > 0.001


def test_losses_are_by_the_number_of_samples() -> None:
    """Without objects there are 256 samples and, as the official code counts, one that is not there."""
    maps = quiet_maps((128, 128))
    losses = rpn().loss(maps, [target(padded=(128, 128))], None)
    expected = torch.nn.functional.softplus(torch.tensor(-9.0)) * 256 / 257
    torch.testing.assert_close(losses["loss_rpn_cls"], expected)
    assert losses["loss_rpn_bbox"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_level": 0}, r"proposals\.per_level"),
        ({"count": 0}, r"proposals\.count"),
        ({"nms_iou": 1.1}, r"proposals\.nms_iou"),
        ({"min_size": -1.0}, r"proposals\.min_size"),
    ],
)
def test_impossible_proposals_are_refused(changes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProposalConfig(**changes)
