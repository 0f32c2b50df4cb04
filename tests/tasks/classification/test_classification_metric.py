import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from piip.tasks.classification.metric import ClassificationMetric


def batch(seed, count, num_classes):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, num_classes)), rng.integers(num_classes, size=count)


def plain(logits, labels):
    """The same scores, as one would write them down."""
    order = np.argsort(-logits, axis=1)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    top1 = order[:, 0] == labels
    return {
        "top1": 100 * top1.mean(),
        "top5": 100 * np.mean([label in row[:5] for row, label in zip(order, labels, strict=True)]),
        "loss": -log_probs[np.arange(len(labels)), labels].mean(),
        "per_class": [100 * top1[labels == k].mean() if (labels == k).any() else None for k in range(logits.shape[1])],
    }


def score(logits, labels):
    metric = ClassificationMetric(logits.shape[1])
    metric.update(torch.from_numpy(logits), torch.from_numpy(labels))
    return metric


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60), st.integers(1, 12))
def test_equals_plain_numpy(seed, count, num_classes):
    logits, labels = batch(seed, count, num_classes)
    scores, expected = score(logits, labels).compute(), plain(logits, labels)
    assert scores.num_images == count
    assert (scores.top1, scores.top5, scores.loss) == pytest.approx(
        (expected["top1"], expected["top5"], expected["loss"]), rel=1e-9
    )
    assert list(scores.per_class) == pytest.approx(expected["per_class"])


@settings(deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(0, 20), min_size=1, max_size=4).filter(any), st.integers(1, 12))
def test_sum_of_shards_equals_the_whole(seed, shard_sizes, num_classes):
    logits, labels = batch(seed, sum(shard_sizes), num_classes)
    whole = score(logits, labels)
    bounds = np.cumsum(shard_sizes)[:-1]
    shards = [score(*part) for part in zip(np.split(logits, bounds), np.split(labels, bounds), strict=True)]
    merged = sum(shard.state() for shard in shards)
    torch.testing.assert_close(merged, whole.state())
    assert whole.compute(merged).top1 == whole.compute().top1
    assert whole.compute(merged).per_class == whole.compute().per_class


def test_batches_add_up_and_low_precision_is_taken():
    logits, labels = batch(0, 32, 7)
    logits = torch.from_numpy(logits).bfloat16()
    metric = ClassificationMetric(7)
    for part in range(4):
        metric.update(logits[part::4], torch.from_numpy(labels)[part::4])
    torch.testing.assert_close(metric.state(), score(logits.double().numpy(), labels).state())


def test_the_five_best_of_fewer_classes_are_all():
    assert score(*batch(0, 20, 3)).compute().top5 == 100


def test_state_is_a_copy():
    metric = score(*batch(0, 4, 3))
    metric.state().zero_()
    assert metric.compute().num_images == 4


def test_mistakes_are_refused():
    metric = ClassificationMetric(3)
    with pytest.raises(ValueError, match=r"\(B, 3\)"):
        metric.update(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="labels"):
        metric.update(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="no image"):
        metric.compute()
    with pytest.raises(ValueError, match="3 classes"):
        metric.compute(torch.ones(9))
