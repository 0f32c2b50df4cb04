import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from piip.images import (
    ImageError,
    as_image,
    find_images,
    image_sizes,
    images_below,
    read_image,
    read_pixels,
    stored_size,
)

GREY = np.linspace(0, 255, 12).astype(np.uint8).reshape(3, 4)


def save(path, array_or_image, **options):
    image = array_or_image if isinstance(array_or_image, Image.Image) else Image.fromarray(array_or_image)
    image.save(path, **options)
    return path


def read(path):
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.pgm"])
def test_grey(tmp_path, name):
    assert (read(save(tmp_path / name, GREY)) == GREY[:, :, None]).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bit_grey_is_scaled(tmp_path, name):
    path = save(tmp_path / name, GREY.astype(np.uint16) * 257)
    assert (read(path) == GREY[:, :, None]).all()


def test_16_bit_grey_is_rounded_to_the_nearest(tmp_path):
    values = np.array([[0, 128, 129, 65406, 65407, 65535]], dtype=np.uint16)
    assert read(save(tmp_path / "a.png", values))[0, :, 0].tolist() == [0, 0, 1, 254, 255, 255]


def test_16_bit_turned_by_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    path = save(tmp_path / "a.png", GREY.astype(np.uint16) * 257, exif=exif)
    assert (read(path)[:, :, 0] == np.rot90(GREY, -1)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    upright = np.kron(np.array([[0, 255], [128, 64], [255, 0]], dtype=np.uint8), np.ones((16, 16), dtype=np.uint8))
    stored = {
        1: upright,
        2: np.fliplr(upright),
        3: np.rot90(upright, 2),
        4: np.flipud(upright),
        5: upright.T,
        6: np.rot90(upright, 1),
        7: np.rot90(upright.T, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", np.ascontiguousarray(stored), exif=exif, quality=95)
    assert np.abs(read(path)[:, :, 0].astype(int) - upright).max() < 8


def test_cmyk(tmp_path):
    colour = Image.new("RGB", (8, 8), (200, 40, 90))
    path = save(tmp_path / "a.jpg", colour.convert("CMYK"), quality=95)
    assert np.abs(read(path).astype(int) - np.asarray(colour)).max() < 8


def test_bilevel_and_palette(tmp_path):
    colour = Image.new("RGB", (4, 4), (255, 0, 0))
    assert (read(save(tmp_path / "a.gif", colour.quantize(4))) == (255, 0, 0)).all()
    assert (read(save(tmp_path / "a.png", Image.new("1", (4, 4), 1))) == 255).all()


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_transparency_is_laid_on_white(tmp_path, name):
    picture = Image.new("RGBA", (2, 1), (0, 0, 200, 255))
    picture.putpixel((1, 0), (0, 0, 0, 0))
    options = {"lossless": True} if name.endswith("webp") else {}
    assert read(save(tmp_path / name, picture, **options)).tolist() == [[[0, 0, 200], [255, 255, 255]]]


def test_half_transparent_grey_and_transparent_palette(tmp_path):
    assert (read(save(tmp_path / "a.png", Image.new("LA", (2, 2), (0, 51)))) == 204).all()
    palette = Image.new("P", (2, 2), 3)
    palette.putpalette([0] * 768)
    assert (read(save(tmp_path / "b.png", palette, transparency=3)) == 255).all()


@pytest.mark.parametrize(
    ("content", "cause"),
    [(b"", "not an image"), (b"%PDF-1.7 nonsense", "not an image"), (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "")],
)
def test_what_is_no_image_is_refused_by_name(tmp_path, content, cause):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"broken\.png.*{cause}"):
        read_image(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.gif"])
def test_truncated_files_are_refused_by_name(tmp_path, name):
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / name, noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=name.replace(".", r"\.")):
        read_image(path)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_range_are_refused(tmp_path, dtype):
    path = save(tmp_path / "a.tif", np.array([[0, 100000]], dtype=dtype))
    with pytest.raises(ImageError, match=r"a\.tif.*brightness range"):
        read_image(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ImageError, match=r"nowhere\.png.*No such file"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path)


def test_find_images(tmp_path):
    for name in ("b/2.JPG", "b/1.png", "b/c/0.webp", "b/notes.txt", "b/.hidden.png", "b/.thumbs/0.png", "photo"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "linked").symlink_to(tmp_path / "b/c")
    found = find_images([tmp_path / "photo", str(tmp_path / "b"), tmp_path / "b/1.png", tmp_path / "linked"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "photo",
        "b/1.png",
        "b/2.JPG",
        "b/c/0.webp",
        "linked/0.webp",
    ]


def test_links_are_followed_but_not_in_circles(tmp_path):
    for name in ("a/1.png", "b/2.png", "b/c/3.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    links = {"a/self": "a", "a/other": "b", "a/inside": "b/c", "b/back": "a", "b/c/up": ".", "broken": "nowhere"}
    for link, target in links.items():
        (tmp_path / link).symlink_to(tmp_path / target)

    def below(folder):
        return [path.relative_to(tmp_path).as_posix() for path in find_images([folder])]

    # To `b` there are two ways, so that what is in it comes twice; `up` and `back` only lead where one is already.
    assert below(tmp_path / "b/c") == [
        "b/c/3.png",
        "b/c/up/a/1.png",
        "b/c/up/a/other/2.png",
        "b/c/up/b/2.png",
        "b/c/up/b/back/1.png",
    ]
    (tmp_path / "b/c/up").unlink()
    assert below(tmp_path / "a") == ["a/1.png", "a/inside/3.png", "a/other/2.png", "a/other/c/3.png"]


def test_folders_that_cannot_be_read(tmp_path):
    with pytest.raises(ImageError, match=r"cannot read folder '.*nothing': No such file or directory"):
        images_below(tmp_path / "nothing")


def test_find_images_names_all_that_is_missing_or_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=r"empty' holds no image.*gone\.png' does not exist"):
        find_images([tmp_path / "empty", tmp_path / "gone.png"])


class _Broken(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return read_image("nothing here.png")


def test_the_message_from_a_data_loader_worker_is_without_stack_trace():
    with pytest.raises(ImageError) as caught:
        next(iter(torch.utils.data.DataLoader(_Broken(), num_workers=1)))
    assert str(caught.value) == "cannot read image 'nothing here.png': No such file or directory"


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_and_stored_pixels(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100} if name == "a.jpg" else {}
    path = save(tmp_path / name, GREY, exif=exif, **options)
    assert image_sizes(path) == ({(3, 4), (4, 3)} if orientation >= 5 else {(3, 4)})
    stored = read_image(path, upright=False)
    assert (stored.height, stored.width) == (3, 4)
    assert np.abs(np.asarray(stored)[:, :, 0].astype(int) - GREY).max() <= (3 if name == "a.jpg" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_files_have_one_size_alone(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.tif", GREY, exif=exif)
    images = [read_image(path, upright=upright) for upright in (True, False)]
    assert {(image.height, image.width) for image in images} == image_sizes(path)
    assert image_sizes(path) == {(4, 3) if orientation >= 5 else (3, 4)}
    expected = ImageOps.exif_transpose(Image.open(save(tmp_path / "a.png", GREY, exif=exif))).convert("RGB")
    assert all((np.asarray(image) == np.asarray(expected)).all() for image in images)


def test_sizes_of_what_is_no_image(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"a\.png"):
        image_sizes(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"none\.png"):
        image_sizes(tmp_path / "none.png")


COLOURS = np.arange(60, dtype=np.uint8).reshape(4, 5, 3) * 4


@pytest.mark.parametrize(
    "source",
    [
        Image.fromarray(COLOURS),
        COLOURS,
        COLOURS[:, ::-1][:, ::-1],
        torch.from_numpy(COLOURS).permute(2, 0, 1),
        torch.from_numpy(COLOURS).permute(2, 0, 1) / 255,
    ],
)
def test_all_sources_of_one_image(tmp_path, source):
    image = as_image(source)
    assert image.mode == "RGB"
    assert (np.asarray(image) == np.asarray(as_image(str(save(tmp_path / "a.png", COLOURS))))).all()


def test_grey_sources_and_turned_pictures(tmp_path):
    for source in (GREY, torch.from_numpy(GREY)[None]):
        assert (np.asarray(as_image(source)) == GREY[:, :, None]).all()
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.png", COLOURS, exif=exif)
    with Image.open(path) as opened:
        assert (np.asarray(as_image(opened)) == read(path)).all()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (COLOURS.astype(np.float32), r"an array of float32 of shape \(4, 5, 3\) is no image: expected uint8"),
        (COLOURS[..., :2], "shape"),
        (COLOURS[None], "shape"),
        (np.zeros((0, 3), np.uint8), "shape"),
        (
            torch.zeros(2, 3, 8, 8),
            r"of shape \(2, 3, 8, 8\) is no image: expected 3 \(or 1\) x height x width",
        ),
        (torch.full((3, 8, 8), -1.5), "a tensor of values from -1.5 to -1.5 is no image: expected 0 to 1"),
        (torch.full((3, 8, 8), float("nan")), "nan"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "a tensor of torch.int64 is no image"),
        ([[1, 2], [3, 4]], "a list is no image"),
    ],
)
def test_what_cannot_be_an_image(source, message):
    with pytest.raises(ImageError, match=message):
        as_image(source)


def test_masks_are_read_as_they_are_stored(tmp_path):
    indices = GREY // 100
    deep = indices.astype(np.uint16) * 30000
    image = Image.fromarray(indices)
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, source, options in (
        ("palette.png", image, {}),
        ("grey.png", indices, {"exif": exif}),
        ("deep.png", deep, {}),
    ):
        path = save(tmp_path / name, source, **options)
        assert (np.asarray(read_pixels(path)[0]) == (deep if name == "deep.png" else indices)).all()
        assert stored_size(path) == (3, 4)


def test_masks_that_are_none_are_refused_by_name(tmp_path):
    (tmp_path / "a.png").write_text("text")
    for read_it in (read_pixels, stored_size):
        for name, cause in (("a.png", "it is not an image"), ("b.png", "No such file")):
            with pytest.raises(ImageError, match=rf"cannot read image '.*{name}': {cause}"):
                read_it(tmp_path / name)


def test_a_damaged_picture_that_was_opened_and_not_read(tmp_path):
    path = save(tmp_path / "a.jpg", np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-200])
    with Image.open(path) as picture, pytest.raises(ImageError, match=r"cannot read .*a\.jpg"):
        as_image(picture)
    with pytest.raises(ImageError, match="cannot read the picture: floating-point"):
        as_image(Image.new("F", (4, 4)))
