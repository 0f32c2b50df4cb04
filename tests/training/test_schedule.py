import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piip.config import from_dict, to_dict
from piip.training.recipe import TrainingConfig
from piip.training.schedule import CosineSchedule, PolynomialSchedule, StepSchedule

WARMUPS = {"warmup_epochs": st.floats(0, 5), "warmup_start": st.floats(0, 1)}
SCHEDULES = st.one_of(
    st.builds(CosineSchedule, **WARMUPS, final=st.floats(0, 1)),
    st.builds(CosineSchedule, warmup_steps=st.integers(0, 5), final=st.floats(0, 1)),
    st.builds(PolynomialSchedule, **WARMUPS, power=st.floats(0.1, 5), final=st.floats(0, 1)),
    st.builds(
        StepSchedule,
        milestones=st.lists(st.floats(0.01, 0.99), unique=True, max_size=4).map(lambda points: tuple(sorted(points))),
        gamma=st.floats(0.01, 1),
    ),
)


def factors(schedule, steps_per_epoch, epochs):
    num_steps = steps_per_epoch * epochs
    return [schedule.factor(step, num_steps, steps_per_epoch) for step in range(num_steps)]


@given(SCHEDULES, st.integers(1, 5), st.integers(6, 20))
def test_factors_are_within_0_to_1_never_empty_and_fall_after_the_warmup(schedule, steps_per_epoch, epochs):
    found = factors(schedule, steps_per_epoch, epochs)
    assert all(0 < factor <= 1 for factor in found)
    warmup = schedule.warmup_steps or math.ceil(schedule.warmup_epochs * steps_per_epoch)
    assert all(late <= early + 1e-12 for early, late in itertools.pairwise(found[warmup:]))


def test_a_single_step_trains():
    assert CosineSchedule().factor(0, 1, 1) == pytest.approx(0.5)


def test_cosine_with_warmup():
    schedule = CosineSchedule(warmup_epochs=5, final=0.1)
    assert schedule.factor(2, 20, 1) == pytest.approx(0.5 * (0.1 + 0.9 * (1 + math.cos(math.pi / 8)) / 2))
    assert schedule.factor(9, 20, 1) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 9.5 / 20)) / 2)
    assert schedule.factor(99_999, 100_000, 5000) == pytest.approx(0.1)


def test_a_warmup_starts_where_it_should():
    schedule = PolynomialSchedule(warmup_epochs=2, warmup_start=0.25)
    assert schedule.factor(0, 10**7, 10**6) == pytest.approx(0.25, rel=1e-4)
    assert schedule.factor(2 * 10**6, 10**7, 10**6) == pytest.approx(0.8)


def test_polynomial():
    assert PolynomialSchedule(power=2, final=0.2).factor(4, 9, 1) == pytest.approx(0.2 + 0.8 / 4)
    assert PolynomialSchedule(power=0.5).factor(9, 10, 1) == pytest.approx(0.05**0.5)


def test_step():
    schedule = StepSchedule(milestones=(8 / 12, 11 / 12))
    found = [schedule.factor(step, 1200, 100) for step in (0, 799, 800, 1099, 1100, 1199)]
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert StepSchedule().factor(11, 12, 1) == 1


@pytest.mark.parametrize("steps_per_epoch", [300, 7330])
def test_a_detector_warms_up_over_some_steps_whatever_the_size_of_the_data(steps_per_epoch):
    schedule = StepSchedule(milestones=(8 / 12, 11 / 12), warmup_steps=500, warmup_start=0.001)
    found = factors(schedule, steps_per_epoch, 12)
    assert found[:500] == pytest.approx([0.001 + 0.999 * (step + 0.5) / 500 for step in range(500)])
    assert set(found[500 : 8 * steps_per_epoch]) == {1.0}
    assert found[8 * steps_per_epoch : 11 * steps_per_epoch] == pytest.approx([0.1] * (3 * steps_per_epoch))
    assert found[11 * steps_per_epoch :] == pytest.approx([0.01] * steps_per_epoch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_epochs": 5.0}, "warmup_epochs: is 5, and must be less than the 5 epochs of the training"),
        ({"warmup_epochs": 5.5}, "warmup_epochs: is 5.5"),
        ({"warmup_steps": 50}, "warmup_steps: is 50, and must be less than the 50 steps"),
    ],
)
def test_a_warmup_ends_before_the_training(settings, message):
    with pytest.raises(ValueError, match=message):
        StepSchedule(**settings).check_length(50, 10)
    StepSchedule(warmup_epochs=4.9).check_length(50, 10)
    StepSchedule(warmup_steps=49).check_length(50, 10)


@pytest.mark.parametrize(
    ("schedule", "settings"),
    [
        (CosineSchedule, {"warmup_epochs": -1}),
        (CosineSchedule, {"warmup_start": 1.5}),
        (CosineSchedule, {"warmup_steps": -1}),
        (CosineSchedule, {"warmup_steps": 10, "warmup_epochs": 1.0}),
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
