"""Run-length encoding, against pycocotools."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as pycoco

from piip.rle import check_runs, encode_rle, mask_to_runs, pack_runs, runs_to_mask, sample_runs, unpack_runs

MASKS = arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))


@given(MASKS, st.integers(1, 30))
def test_masks_are_encoded_as_by_pycocotools_and_come_back(mask, factor):
    mask = np.kron(mask, np.ones((factor, 1), dtype=bool))  # long runs need several characters
    encoded = encode_rle(mask)
    expected = pycoco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encoded == {"size": list(mask.shape), "counts": expected["counts"].decode()}
    runs = unpack_runs(encoded["counts"])
    check_runs(runs, mask.shape)
    assert (runs == mask_to_runs(mask)).all()
    assert (runs_to_mask(runs, mask.shape) == mask).all()


@given(MASKS, st.data())
def test_rows_and_columns_of_a_mask(mask, data):
    rows, columns = (
        np.array(data.draw(st.lists(st.integers(0, side - 1), max_size=50)), dtype=np.int64) for side in mask.shape
    )
    sampled = sample_runs(mask_to_runs(mask), mask.shape, rows, columns)
    assert sampled.dtype == bool
    assert (sampled == mask[rows[:, None], columns]).all()


@pytest.mark.parametrize("runs", [[6], [0, 6], [0, 0, 6], [2, 0, 4], [0, 0, 2, 1, 0, 0, 3]])
def test_rows_and_columns_of_masks_with_empty_runs(runs):
    mask = runs_to_mask(np.array(runs), (2, 3))
    assert (sample_runs(np.array(runs), (2, 3), np.arange(2), np.arange(3)[::-1]) == mask[:, ::-1]).all()


@given(st.lists(st.integers(0, 2**50), max_size=20))
def test_any_runs_survive_packing(runs):
    assert unpack_runs(pack_runs(np.array(runs, dtype=np.int64))).tolist() == runs


@pytest.mark.parametrize("counts", ["o", "\x01", "0\x7f", "~", "oooooooooooooo0", "é"])
def test_damaged_characters_are_refused(counts):
    with pytest.raises(ValueError, match="damaged"):
        unpack_runs(counts)


@pytest.mark.parametrize("runs", [[3, 2], [-1, 7], []])
def test_runs_that_do_not_fill_the_mask_are_refused(runs):
    with pytest.raises(ValueError, match="2 x 3"):
        check_runs(np.array(runs, dtype=np.int64), (2, 3))
