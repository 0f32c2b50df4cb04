"""Denoising queries: what they are made of, and what they must not see."""

import pytest
import torch
from torch import Tensor

from piip.tasks.detection.dino import DenoisingConfig, denoising
from piip.tasks.detection.dino.denoising import DenoisingGenerator, Noise, blocked_pairs, draw_noise
from piip.tasks.detection.dino.objects import Objects, gather_objects
from piip.tasks.detection.structures import Target

CPU = torch.device("cpu")


def objects(*counts: int, seed: int = 0) -> Objects:
    generator = torch.Generator().manual_seed(seed)
    targets = []
    for count in counts:
        corners = 100 * torch.rand((count, 2), generator=generator)
        boxes = torch.cat((corners, corners + 20 + 30 * torch.rand((count, 2), generator=generator)), 1)
        targets.append(Target(boxes, torch.randint(5, (count,), generator=generator)))
    return gather_objects(targets, torch.tensor([[160.0, 200.0]]).expand(len(counts), -1))


def generator(**changes) -> DenoisingGenerator:
    torch.manual_seed(0)
    return DenoisingGenerator(DenoisingConfig(**changes), num_classes=5, embed_dim=8)


@pytest.mark.parametrize(
    ("counts", "groups", "queries"), [((3, 1), 33, 198), ((0, 1), 100, 200), ((150, 2), 1, 300), ((0, 0), 100, 0)]
)
def test_groups_fill_the_number_of_queries(counts, groups: int, queries: int) -> None:
    made = generator()(objects(*counts))
    assert made.groups == groups
    assert made.content.shape == (2, queries, 8)
    assert made.boxes.shape == (2, queries, 4)


def test_without_noise_positive_queries_are_the_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_noise(shape, num_classes: int, config: DenoisingConfig, device: torch.device) -> Noise:
        never = torch.zeros(shape, dtype=torch.bool)
        return Noise(never, torch.zeros(shape, dtype=torch.int64), torch.zeros(*shape, 4))

    monkeypatch.setattr(denoising, "draw_noise", no_noise)
    module, own = generator(), objects(3, 1)
    made = module(own)
    boxes = made.boxes.sigmoid().unflatten(1, (33, 2, 3))
    content = made.content.unflatten(1, (33, 2, 3))
    for image, count in enumerate(own.counts):
        expected = own.boxes[image, :count]
        torch.testing.assert_close(boxes[image, :, :, :count], expected.expand(33, 2, -1, -1), rtol=0, atol=1e-6)
        labels = module.label_embed(own.labels[image, :count])
        assert torch.equal(content[image, :, :, :count], labels.expand(33, 2, -1, -1))
        assert not content[image, :, :, count:].any()
        assert (boxes[image, :, :, count:] == 0.5).all()


def test_noise_is_as_large_as_told() -> None:
    torch.manual_seed(0)
    noise = draw_noise((2, 50, 2, 40), 5, DenoisingConfig(label_noise=0.5), CPU)
    assert noise.is_relabelled.float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert noise.labels.unique().tolist() == [0, 1, 2, 3, 4]
    positive, negative = noise.shifts[:, :, 0], noise.shifts[:, :, 1]
    assert positive.abs().max() <= 1
    assert negative.abs().min() >= 1
    assert negative.abs().max() <= 2
    assert [(part < 0).float().mean().item() for part in (positive, negative)] == pytest.approx([0.5, 0.5], abs=0.02)


def test_no_group_sees_another_and_nothing_sees_denoising_queries() -> None:
    made = generator(num_queries=6)(objects(2, 1))
    assert made.groups == 3
    blocked = blocked_pairs(made, 5)
    group = [number // 4 for number in range(12)] + [None] * 5
    expected = [[seen is not None and seen != own for seen in group] for own in group]
    assert blocked.tolist() == expected


def test_empty_batches_block_nothing() -> None:
    assert not blocked_pairs(generator()(objects(0, 0)), 5).any()


def test_draws_are_repeated_by_the_seed() -> None:
    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return draw_noise((1, 2, 2, 3), 5, DenoisingConfig(), CPU).shifts

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
