import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import mtrand as numpy_global_random
from torch.utils.data import DataLoader

from piip.images import ImageError
from piip.sampling import AugmentedDataset, EpochBatchSampler, SampleKey, ShardedSampler, derive_seed, seeded


class RandomItems:
    """Draws from every process-wide generator that an augmentation may use."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return index, random.random(), float(numpy_global_random.rand()), float(torch.rand(()))


@st.composite
def samplers(draw):
    world_size = draw(st.integers(1, 5))
    batch_size = world_size * draw(st.integers(1, 6))
    num_samples = draw(st.integers(batch_size, 200))
    seed, epoch = draw(st.integers(0, 2**40)), draw(st.integers(0, 100))
    ranks = [
        EpochBatchSampler(num_samples, batch_size, rank=r, world_size=world_size, seed=seed) for r in range(world_size)
    ]
    for sampler in ranks:
        sampler.set_epoch(epoch)
    alone = EpochBatchSampler(num_samples, batch_size, seed=seed)
    alone.set_epoch(epoch)
    return ranks, alone


@given(samplers())
def test_processes_share_out_the_batches_of_a_single_process(case):
    ranks, alone = case
    for parts, whole in zip(zip(*ranks, strict=True), alone, strict=True):
        assert {len(part) for part in parts} == {alone.batch_size // len(ranks)}
        assert sorted(key.index for part in parts for key in part) == sorted(key.index for key in whole)


@given(samplers())
def test_an_epoch_visits_each_sample_at_most_once_and_leaves_out_less_than_a_batch(case):
    _, alone = case
    visited = [key.index for batch in alone for key in batch]
    assert len(set(visited)) == len(visited) > alone.num_samples - alone.batch_size
    assert set(visited) <= set(range(alone.num_samples))


@given(samplers(), st.data())
def test_resuming_inside_an_epoch_gives_the_remaining_batches(case, data):
    ranks, _ = case
    sampler = ranks[-1]
    batches = list(sampler)
    start = data.draw(st.integers(0, len(batches)))
    sampler.set_epoch(sampler.epoch, start_batch=start)
    assert len(sampler) == len(batches) - start
    assert list(sampler) == batches[start:]


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.data())
def test_parts_are_those_of_so_many_more_processes(world_size, parts, size, data):
    batch_size = world_size * parts * size
    num_samples = data.draw(st.integers(batch_size, 3 * batch_size))
    for rank in range(world_size):
        sampler = EpochBatchSampler(num_samples, batch_size, rank=rank, world_size=world_size, parts=parts)
        finer = [
            EpochBatchSampler(num_samples, batch_size, rank=rank * parts + part, world_size=world_size * parts)
            for part in range(parts)
        ]
        assert len(sampler) == len(list(sampler)) == parts * sampler.batches_per_epoch
        assert list(sampler) == [batch for batches in zip(*finer, strict=True) for batch in batches]
        sampler.set_epoch(0, start_batch=1)
        assert list(sampler) == [batch for batches in list(zip(*finer, strict=True))[1:] for batch in batches]


@given(st.integers(1, 4), st.integers(1, 4))
def test_reversing_even_parts_reverses_the_global_batch(world_size, half):
    batch_size = 2 * half * world_size
    (whole,) = EpochBatchSampler(batch_size, batch_size)
    mirror = dict(zip(whole, reversed(whole), strict=True))
    for rank in range(world_size):
        (part,) = EpochBatchSampler(batch_size, batch_size, rank=rank, world_size=world_size)
        assert [mirror[key] for key in part] == part[::-1]


@st.composite
def grouped(draw):
    groups = draw(st.lists(st.integers(0, 3), min_size=1, max_size=80))
    world_size, parts = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    batch_size = world_size * parts * draw(st.integers(1, 4))
    groups += [0] * max(batch_size - len(groups), 0)

    def sampler(**shares):
        found = EpochBatchSampler(len(groups), batch_size, groups=groups, **shares)
        found.set_epoch(2)
        return found

    return groups, sampler, world_size, parts


@given(grouped())
def test_batches_are_of_one_group_but_for_the_remainders(case):
    groups, sampler, _, _ = case
    alone = sampler()
    batches = [[key.index for key in batch] for batch in alone]
    assert len(batches) == len(alone) == len(groups) // alone.batch_size
    visited = [index for batch in batches for index in batch]
    assert len(set(visited)) == len(visited)
    mixed = [batch for batch in batches if len({groups[index] for index in batch}) > 1]
    assert len(mixed) < len(set(groups))
    for group in set(groups):
        assert sum(groups[index] == group for batch in mixed for index in batch) < alone.batch_size


@given(grouped())
def test_grouped_batches_are_the_same_on_any_number_of_processes_and_parts(case):
    _, sampler, world_size, parts = case
    whole = [sorted(key.index for key in batch) for batch in sampler()]
    ranks = [list(sampler(rank=rank, world_size=world_size, parts=parts)) for rank in range(world_size)]
    shares = [
        [key.index for rank in ranks for part in rank[step * parts : (step + 1) * parts] for key in part]
        for step in range(len(whole))
    ]
    assert [sorted(share) for share in shares] == whole


@given(grouped(), st.data())
def test_grouped_batches_are_resumed(case, data):
    _, sampler, _, _ = case
    found = sampler()
    batches = list(found)
    start = data.draw(st.integers(0, len(batches)))
    found.set_epoch(2, start_batch=start)
    assert list(found) == batches[start:]


def test_no_group_is_too_small_to_be_trained_on_and_mixed_batches_come_anywhere():
    groups = [0] * 37 + [1] * 2  # nine batches could be filled with the first group alone
    sampler = EpochBatchSampler(39, 4, groups=groups)
    visits, places = {37: 0, 38: 0}, set()
    for epoch in range(100):
        sampler.set_epoch(epoch)
        for place, batch in enumerate(sampler):
            rare = [key.index for key in batch if groups[key.index] == 1]
            places |= {place} if rare else set()
            for index in rare:
                visits[index] += 1
    assert min(visits.values()) > 80  # 36 of 39 samples are visited in an epoch
    assert places == set(range(9))


def test_epochs_and_seeds_shuffle_differently():
    def order(seed, epoch):
        sampler = EpochBatchSampler(64, 64, seed=seed)
        sampler.set_epoch(epoch)
        (batch,) = sampler
        assert all(key.epoch == epoch for key in batch)
        return [key.index for key in batch]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_samples": 7, "batch_size": 8}, "num_samples=7.*at most 7"),
        ({"num_samples": 8, "batch_size": 3, "world_size": 2}, "batch_size=3.*multiple of 2"),
        ({"num_samples": 8, "batch_size": 0}, "batch_size=0"),
        ({"num_samples": 8, "batch_size": 4, "rank": 2, "world_size": 2}, "rank=2"),
        ({"num_samples": 8, "batch_size": 4, "groups": [0] * 7}, "groups.*num_samples=8, got 7"),
    ],
)
def test_impossible_batches_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        EpochBatchSampler(**kwargs)


@pytest.mark.parametrize(("epoch", "start_batch"), [(-1, 0), (0, 3), (0, -1)])
def test_impossible_positions_are_refused(epoch, start_batch):
    with pytest.raises(ValueError, match="epoch"):
        EpochBatchSampler(8, 4).set_epoch(epoch, start_batch)


@given(st.integers(0, 100), st.integers(1, 7))
def test_evaluation_shards_cover_each_index_once(num_samples, world_size):
    shards = [ShardedSampler(num_samples, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert sorted(index for shard in shards for index in shard) == list(range(num_samples))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@given(st.lists(st.integers(0, 5), max_size=3).map(tuple), st.lists(st.integers(0, 5), max_size=3).map(tuple))
def test_different_keys_have_different_seeds(first, second):
    assert (derive_seed(*first) == derive_seed(*second)) == (first == second)


def test_seeding_leaves_all_generators_as_they_were():
    def draws():
        return random.random(), random.gauss(0, 1), numpy_global_random.randn(), float(torch.randn(()))

    def draw_and_fail():
        with seeded("inner"):
            return draws()[0] / 0

    # One draw first: Gaussian generators keep a second value back, which must survive too.
    with seeded("test"):
        draws()
        expected = draws()
    with seeded("test"):
        draws()
        with pytest.raises(ZeroDivisionError):
            draw_and_fail()
        assert draws() == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentation_depends_on_seed_epoch_and_index_only(workers):
    dataset = AugmentedDataset(RandomItems(), seed=3)
    expected = {key: dataset[key] for epoch in (0, 1) for key in [SampleKey(epoch, index) for index in range(8)]}
    sampler = EpochBatchSampler(8, 4, seed=1)
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=workers, collate_fn=list)
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        for keys, items in zip(sampler, loader, strict=True):
            assert items == [expected[key] for key in keys]
    assert len(set(expected.values())) == 16
    assert AugmentedDataset(RandomItems(), seed=4)[SampleKey(0, 0)] != expected[SampleKey(0, 0)]


class DamagedItems:
    """Items whose images cannot be read where `damaged` says so."""

    def __init__(self, damaged: set[int]) -> None:
        self.damaged = damaged

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[int, float]:
        if index in self.damaged:
            raise ImageError(f"cannot read image '{index}.jpg': it is cut off")
        return index, random.random()


def test_the_next_sample_takes_the_place_of_one_that_cannot_be_read():
    dataset, intact = AugmentedDataset(DamagedItems({3, 10, 11}), seed=3), AugmentedDataset(DamagedItems(set()), seed=3)
    with pytest.warns(UserWarning, match=r"cannot read image '3.jpg': it is cut off; the next sample is taken in its"):
        found, draw = dataset[SampleKey(0, 3)]
    assert found == 4
    assert draw == intact[SampleKey(0, 3)][1]
    with pytest.warns(UserWarning, match=r"1[01].jpg"):
        assert dataset[SampleKey(0, 10)][0] == 0


@pytest.mark.filterwarnings("ignore:cannot read image")
def test_a_dataset_that_cannot_be_read_at_all_is_no_matter_of_single_files():
    with pytest.raises(ImageError, match=r"cannot read image '9.jpg'"):
        AugmentedDataset(DamagedItems(set(range(12))), seed=3)[SampleKey(0, 0)]
