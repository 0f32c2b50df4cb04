import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from piip.tasks.classification.mixing import MixingConfig

IMAGES = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


@settings(deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([(0.8, 1.0), (0.8, 0.0), (0.0, 1.0)]),
    st.floats(0, 0.5),
)
def test_targets_are_probabilities_and_arguments_stay(step, alphas, smoothing):
    config = MixingConfig(mixup=alphas[0], cutmix=alphas[1], label_smoothing=smoothing)
    before = IMAGES.clone()
    images, targets = config.build(5)(IMAGES, LABELS, (0, step))
    assert torch.equal(IMAGES, before)
    assert images.shape == IMAGES.shape
    assert targets.shape == (6, 5)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(6))
    assert targets.min() >= 0
    blended = IMAGES.minimum(IMAGES.flip(0)) - 1e-6 <= images
    assert (blended & (images <= IMAGES.maximum(IMAGES.flip(0)) + 1e-6)).all()


def test_draws_depend_on_the_key_only():
    mix = MixingConfig().build(5)
    images, targets = mix(IMAGES, LABELS, (0, 3))
    torch.rand(3)
    again = mix(IMAGES, LABELS, (0, 3))
    other = mix(IMAGES, LABELS, (0, 4))
    assert torch.equal(images, again[0])
    assert torch.equal(targets, again[1])
    assert not torch.equal(images, other[0])


def test_mirrored_halves_mix_as_the_whole_batch_does():
    mix = MixingConfig().build(5)
    part = torch.tensor([1, 4])  # mirror images of one another, as EpochBatchSampler shares batches out
    for step in range(8):
        whole = mix(IMAGES, LABELS, (0, step))
        local = mix(IMAGES[part], LABELS[part], (0, step))
        torch.testing.assert_close(whole[0][part], local[0])
        torch.testing.assert_close(whole[1][part], local[1])


def test_no_mixing_and_no_smoothing_changes_nothing():
    mix = MixingConfig(mixup=0.0, cutmix=0.0, label_smoothing=0.0).build(5)
    images, labels = mix(IMAGES[:3], LABELS[:3], (0, 0))
    assert images is not None
    assert torch.equal(images, IMAGES[:3])
    assert torch.equal(labels, LABELS[:3])
    assert labels.dtype == torch.int64


def test_smoothing_alone_equals_cross_entropy_with_smoothing():
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    mix = MixingConfig(mixup=0.0, cutmix=0.0, label_smoothing=0.1).build(5)
    images, targets = mix(IMAGES[:3], LABELS[:3], (0, 0))
    assert torch.equal(images, IMAGES[:3])
    torch.testing.assert_close(
        torch.nn.functional.cross_entropy(logits, targets),
        torch.nn.functional.cross_entropy(logits, LABELS[:3], label_smoothing=0.1),
    )


def test_odd_batches_are_refused():
    with pytest.raises(ValueError, match="even, got 3"):
        MixingConfig().build(5)(IMAGES[:3], LABELS[:3], (0, 0))


@pytest.mark.parametrize(
    "fields", [{"mixup": -1.0}, {"cutmix": -1.0}, {"prob": 2.0}, {"switch_prob": -0.5}, {"label_smoothing": 1.0}]
)
def test_impossible_settings_are_refused(fields):
    ((name, value),) = fields.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        MixingConfig(**fields)
