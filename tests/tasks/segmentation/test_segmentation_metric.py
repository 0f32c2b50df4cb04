"""The scores, against a plain confusion matrix."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from piip.tasks.segmentation.metric import SegmentationMetric


def plain_scores(predictions, labels, num_classes):
    """mIoU, mean accuracy, accuracy, IoUs, accuracies: from a matrix that is filled pixel by pixel."""
    matrix = np.zeros((num_classes, num_classes))
    for found, expected in zip(np.concatenate(predictions), np.concatenate(labels), strict=True):
        if expected != 255:
            matrix[expected, found] += 1
    with np.errstate(invalid="ignore"):
        ious = 100 * np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))
        accuracies = 100 * np.diag(matrix) / matrix.sum(1)
    return np.nanmean(ious), np.nanmean(accuracies), 100 * np.diag(matrix).sum() / matrix.sum(), ious, accuracies


def assert_equal(scores, expected):
    miou, mean_accuracy, accuracy, ious, accuracies = expected
    assert scores.miou == pytest.approx(miou)
    assert scores.mean_accuracy == pytest.approx(mean_accuracy)
    assert scores.accuracy == pytest.approx(accuracy)
    for own, theirs in ((scores.per_class_iou, ious), (scores.per_class_accuracy, accuracies)):
        assert [value is None for value in own] == np.isnan(theirs).tolist()
        assert [value or 0.0 for value in own] == pytest.approx(np.nan_to_num(theirs).tolist())


@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 60), st.integers(0, 2**30))
def test_equal_to_a_plain_confusion_matrix_in_any_parts(num_classes, num_images, num_pixels, seed):
    generator = np.random.default_rng(seed)
    predictions = generator.integers(num_classes, size=(num_images, num_pixels))
    labels = generator.integers(num_classes, size=(num_images, num_pixels))
    labels[generator.random(labels.shape) < 0.3] = 255
    labels[0, 0] = 0
    metrics = [SegmentationMetric(num_classes) for _ in range(2)]
    for number, (found, expected) in enumerate(zip(predictions, labels, strict=True)):
        metrics[number % 2].update(torch.from_numpy(found)[None], torch.from_numpy(expected.astype(np.uint8))[None])
    scores = metrics[0].compute(metrics[0].state() + metrics[1].state())
    assert scores.num_images == num_images
    assert_equal(scores, plain_scores(predictions, labels, num_classes))


def test_classes_that_are_not_there_do_not_count():
    metric = SegmentationMetric(4)
    metric.update(torch.tensor([[0, 0, 1, 2]]), torch.tensor([[0, 0, 0, 255]]))
    scores = metric.compute()
    assert scores.per_class_iou == (pytest.approx(200 / 3), 0.0, None, None)  # class 1 is predicted, wrongly
    assert scores.per_class_accuracy == (pytest.approx(200 / 3), None, None, None)
    assert (scores.miou, scores.mean_accuracy) == (pytest.approx(100 / 3), pytest.approx(200 / 3))


def test_counts_are_exact_beyond_what_floats_hold():
    metric = SegmentationMetric(2)
    state = metric.state()
    state[0], state[1], state[-1] = 2**60, 1, 1
    assert metric.compute(state).per_class_accuracy[0] == 100 * 2**60 / (2**60 + 1)
    assert (state + state)[0].item() == 2**61


@pytest.mark.parametrize(
    ("prediction", "labels", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 2), r"must be of one size, got \(2, 3\) and \(3, 2\)"),
        (torch.full((2, 2), 3), torch.zeros(2, 2), r"prediction: classes must be within 0...2, got 3 to 3"),
        (torch.zeros(2, 2), torch.full((2, 2), 7), r"labels: classes must be within 0...2, got 7 to 7"),
        (torch.full((2, 2), -1), torch.zeros(2, 2), r"prediction: .*-1"),
    ],
)
def test_what_cannot_be_counted(prediction, labels, message):
    metric = SegmentationMetric(3)
    with pytest.raises(ValueError, match=message):
        metric.update(prediction, labels)
    assert not metric.state().any()


def test_no_scores_of_nothing():
    metric = SegmentationMetric(3)
    metric.update(torch.zeros(2, 2), torch.full((2, 2), 255))
    with pytest.raises(ValueError, match="no labelled pixel"):
        metric.compute()
    with pytest.raises(ValueError, match=r"state must be \(10,\) for 3 classes, got \(17,\)"):
        metric.compute(SegmentationMetric(4).state())
