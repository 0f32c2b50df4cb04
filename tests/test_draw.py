import numpy as np
import pytest
from PIL import Image

from piip.draw import annotate_classification, contact_sheet

PREDICTIONS = [("golden retriever", 0.9), ("cat", 0.1)]


def test_caption_goes_below_the_untouched_image():
    noise = np.random.default_rng(0).integers(256, size=(400, 500, 3), dtype=np.uint8)
    picture = np.asarray(annotate_classification(Image.fromarray(noise), PREDICTIONS))
    assert (picture[:400] == noise).all()
    assert picture.shape[0] > 400
    assert picture.shape[1] == 500
    lines = picture[400:].reshape(2, -1, 500, 3)
    covered = (lines == (203, 222, 246)).all(axis=3).any(axis=1).sum(axis=1)  # the score bars are as long as the scores
    assert covered == pytest.approx([450, 50], abs=3)
    assert (lines.sum(axis=3) < 200).any(axis=(1, 2)).all()  # dark text on each line


@pytest.mark.parametrize("size", [(32, 32), (1, 3000), (3000, 1), (20, 900), (4000, 3000)])
def test_any_size_gives_a_picture_that_text_fits_on(size):
    picture = annotate_classification(Image.new("RGB", size), PREDICTIONS)
    assert picture.width >= 320
    assert picture.width * picture.height < 2 * max(size[0], 320) * max(size[1], 320)


def test_text_grows_with_the_image():
    small, large = (annotate_classification(Image.new("RGB", (side, side)), PREDICTIONS) for side in (400, 4000))
    assert (large.height - 4000) > 5 * (small.height - 400)


def test_long_names_are_cut_and_no_predictions_are_fine():
    picture = annotate_classification(Image.new("RGB", (320, 320)), [("x" * 500, 0.5), ("", 0.0)])
    assert picture.width == 320
    assert annotate_classification(Image.new("RGB", (320, 320)), []).size == (320, 320)


def test_contact_sheet_places_images_row_by_row():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    sheet = contact_sheet([Image.new("RGB", (30, 30), colour) for colour in colours], columns=2, cell_size=96)
    gap, pitch = 4, 100
    assert sheet.size == (2 * pitch + gap, 2 * pitch + gap)
    centres = [(gap + 48, gap + 48), (gap + pitch + 48, gap + 48), (gap + 48, gap + pitch + 48)]
    assert [sheet.getpixel(centre) for centre in centres] == colours
    assert sheet.getpixel((gap + pitch + 48, gap + pitch + 48)) == (255, 255, 255)


def test_contact_sheet_keeps_proportions_and_writes_titles():
    wide = Image.new("RGB", (200, 50), "red")
    plain = contact_sheet([wide], columns=3, cell_size=96)
    titled = contact_sheet([wide], columns=3, cell_size=96, titles=["a title that is much too long for its cell"])
    red = (np.asarray(plain) == (255, 0, 0)).all(axis=2)
    assert red.sum() == 96 * 24
    assert titled.height > plain.height
    assert titled.width == plain.width


@pytest.mark.parametrize(
    ("count", "columns", "titles", "message"), [(0, 1, [], "0 images"), (1, 0, [], "columns=0"), (2, 1, ["a"], "got 1")]
)
def test_impossible_sheets_are_refused(count, columns, titles, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet([Image.new("RGB", (4, 4))] * count, columns, titles)
