"""The sampler."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from piip.tasks.detection.mask_rcnn import sampling
from piip.tasks.detection.mask_rcnn.matching import BACKGROUND
from piip.tasks.detection.mask_rcnn.sampling import SamplerConfig, subsample


@given(
    st.lists(st.integers(-2, 3), max_size=60).map(lambda values: torch.tensor(values, dtype=torch.int64)),
    st.integers(1, 40),
    st.sampled_from([0.25, 0.5, 1.0]),
)
@settings(max_examples=300, deadline=None)
def test_counts(matches: torch.Tensor, count: int, fraction: float) -> None:
    positives, negatives = SamplerConfig(count=count, positive_fraction=fraction).sample(matches)
    available, background = int((matches >= 0).sum()), int((matches == BACKGROUND).sum())
    assert len(positives) == min(available, int(count * fraction))
    assert len(negatives) == min(background, count - len(positives))
    assert (matches[positives] >= 0).all()
    assert (matches[negatives] == BACKGROUND).all()
    chosen = [*positives.tolist(), *negatives.tolist()]
    assert len(set(chosen)) == len(chosen)


def test_choice_is_random_and_fair() -> None:
    torch.manual_seed(0)
    chosen = torch.stack([subsample(torch.arange(100, 110), 3) for _ in range(2000)])
    counts = torch.bincount(chosen.flatten() - 100, minlength=10)
    assert counts.sum() == 6000
    assert (counts - 600).abs().max() < 100


def test_the_choice_can_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "subsample", lambda candidates, count: candidates[:count])
    matches = torch.tensor([-1, 0, 1, 2, -1, -2, -1, -1])
    positives, negatives = SamplerConfig(count=4, positive_fraction=0.5).sample(matches)
    assert positives.tolist() == [1, 2]
    assert negatives.tolist() == [0, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"count": 0}, r"sampler\.count"), ({"positive_fraction": 0.0}, r"sampler\.positive_fraction")],
)
def test_choosing_nothing_is_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplerConfig(**{"count": 8, "positive_fraction": 0.5} | changes)
