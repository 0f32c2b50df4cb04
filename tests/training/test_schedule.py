import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piip.config import from_dict, to_dict
from piip.training.recipe import TrainingConfig
from piip.training.schedule import CosineSchedule, PolynomialSchedule, StepSchedule

SCHEDULES = st.one_of(
    st.builds(
        CosineSchedule,
        warmup_epochs=st.floats(0, 5),
        warmup_start=st.floats(0, 1),
        final=st.floats(0, 1),
    ),
    st.builds(PolynomialSchedule, warmup_epochs=st.floats(0, 5), power=st.floats(0.1, 5), final=st.floats(0, 1)),
    st.builds(
        StepSchedule,
        milestones=st.lists(st.floats(0.01, 0.99), unique=True, max_size=4).map(lambda points: tuple(sorted(points))),
        gamma=st.floats(0.01, 1),
    ),
)


@given(SCHEDULES, st.integers(6, 50), st.data())
def test_factors_are_within_0_to_1_and_fall_after_the_warmup(schedule, epochs, data):
    points = sorted(data.draw(st.lists(st.floats(0.01, 1), min_size=2, max_size=20)))
    factors = [schedule.factor(point * epochs, epochs) for point in points]
    assert all(0 <= factor <= 1 for factor in factors)
    after = [factor for factor, point in zip(factors, points, strict=True) if point * epochs >= schedule.warmup_epochs]
    assert all(late <= early + 1e-12 for early, late in itertools.pairwise(after))


def test_cosine_with_warmup():
    schedule = CosineSchedule(warmup_epochs=5, final=0.1)
    assert schedule.factor(2.5, 20) == pytest.approx(0.5 * (0.1 + 0.9 * (1 + math.cos(math.pi / 8)) / 2))
    assert schedule.factor(10, 20) == pytest.approx(0.55)
    assert schedule.factor(20, 20) == pytest.approx(0.1)


def test_a_warmup_starts_where_it_should():
    schedule = PolynomialSchedule(warmup_epochs=2, warmup_start=0.25)
    assert schedule.factor(1e-9, 10) == pytest.approx(0.25)
    assert schedule.factor(2, 10) == pytest.approx(0.8)


def test_polynomial():
    assert PolynomialSchedule(power=2, final=0.2).factor(5, 10) == pytest.approx(0.2 + 0.8 / 4)
    assert PolynomialSchedule(power=0.5).factor(10, 10) == 0


def test_step():
    schedule = StepSchedule(milestones=(8 / 12, 11 / 12))
    factors = [schedule.factor(epoch, 12) for epoch in (1, 8, 8.001, 11, 11.001, 12)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert StepSchedule().factor(12, 12) == 1


@pytest.mark.parametrize(
    ("schedule", "settings"),
    [
        (CosineSchedule, {"warmup_epochs": -1}),
        (CosineSchedule, {"warmup_start": 1.5}),
        (CosineSchedule, {"final": -0.1}),
        (CosineSchedule, {"warmup_epochs": math.nan}),
        (PolynomialSchedule, {"final": 2}),
        (PolynomialSchedule, {"power": 0}),
        (StepSchedule, {"milestones": (0.5, 0.5)}),
        (StepSchedule, {"milestones": (8, 11)}),
        (StepSchedule, {"gamma": 0}),
    ],
)
def test_impossible_schedules_are_refused(schedule, settings):
    with pytest.raises(ValueError, match=f"schedule.{next(iter(settings))}"):
        schedule(**settings)


def test_each_kind_survives_json():
    for schedule in (CosineSchedule(final=0.5), PolynomialSchedule(power=2.0), StepSchedule(milestones=(0.5,))):
        training = TrainingConfig(epochs=1, batch_size=2, optimizer={"lr": 1.0}, schedule=schedule)
        assert from_dict(TrainingConfig, to_dict(training)).schedule == schedule
