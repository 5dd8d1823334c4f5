"""Images as programs give them, as phones write them, and files that are something else."""

import io
import json
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from mobilevlm.image import ImageError, ImageSpec, load_image, pixel_values, preprocess
from tests.mobilevlm.test_image import encoded, gradient, noise

PIXELS = noise(30, 20)
FLOATS = PIXELS.astype(np.float32) / 255


@pytest.mark.parametrize(
    "given",
    [
        *(PIXELS, PIXELS[None], np.asfortranarray(PIXELS), np.ascontiguousarray(PIXELS.transpose(2, 0, 1))),
        *(PIXELS.transpose(2, 0, 1), FLOATS, FLOATS.transpose(2, 0, 1), FLOATS.astype(np.float64) * 255),
        *(FLOATS.astype(np.float16), PIXELS.astype(np.uint16) * 257, PIXELS.astype(np.int64), PIXELS.astype(">i4")),
        np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)]),
        np.repeat(PIXELS, 2, axis=1)[:, ::2],
    ],
    ids=lambda given: f"{given.dtype}{given.shape}{'' if given.flags.c_contiguous else ' view'}",
)
def test_arrays_are_images(given):
    """Arrays of uint8 and booleans. Public: huggingface/transformers issue 25195 (ranges that are guessed)."""
    np.testing.assert_allclose(
        np.asarray(load_image(given)).astype(int), PIXELS.astype(int), atol=int(given.itemsize == 2)
    )


@pytest.mark.parametrize("given", [PIXELS[..., 0], PIXELS[..., :1], PIXELS[..., 0][None], FLOATS[..., 0]], ids=str)
def test_gray_arrays_are_images(given):
    np.testing.assert_array_equal(np.asarray(load_image(given)), np.repeat(PIXELS[..., :1], 3, axis=-1))


def test_boolean_array_is_black_and_white():
    np.testing.assert_array_equal(np.asarray(load_image(np.array([[True, False]])))[0, :, 0], [255, 0])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((2, 5, 7, 3), np.uint8), r"shape \(2, 5, 7, 3\)"),
        (np.zeros((5, 7, 2), np.uint8), r"shape \(5, 7, 2\)"),
        (np.zeros(9, np.uint8), r"shape \(9,\)"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.array([["a"]]), "dtype <U1"),
        (np.array([[1j]]), "dtype complex128"),
        (np.array([[None]]), "dtype object"),
        (FLOATS - 0.5, "neither 0..1 nor 0..255"),
        (np.full((3, 3), np.nan, np.float32), "neither 0..1 nor 0..255"),
        (np.array([[70_000]]), "cannot be known"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_are_no_images_say_what_to_pass(given, words):
    """Floats, channels first, other shapes: a sentence.

    Public: huggingface/transformers issue 25195, tomas-gajarsky/facetorch pull request 91.
    """
    with pytest.raises(ImageError, match=words) as caught:
        load_image(given)
    assert "uint8" in str(caught.value) or "8-bit" in str(caught.value)


def test_every_kind_of_file_and_bytes_is_read(tmp_path):
    """Open files, bytes and views of them. Public: abetlen/llama-cpp-python issue 1223 (a local image)."""
    data = encoded(Image.fromarray(PIXELS), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    buffer = io.BytesIO(data)
    buffer.seek(7)
    with open(tmp_path / "a.png", "rb") as file, zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("a.png", data)
        with archive.open("a.png") as member:
            for source in (buffer, bytearray(data), memoryview(data), file, member, tmp_path / "a.png"):
                np.testing.assert_array_equal(np.asarray(load_image(source)), PIXELS)
        assert not file.closed and not buffer.closed


@pytest.mark.parametrize("given", [None, 5, {"image": 1}, object(), iter([])], ids=lambda given: type(given).__name__)
def test_other_objects_are_refused_with_what_is_taken(given):
    with pytest.raises(
        ImageError, match="Give a path, the bytes of a file, an open file, a PIL image or a numpy array"
    ):
        load_image(given)


def test_files_that_cannot_be_read_from(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(PIXELS), "PNG"))
    with open(tmp_path / "a.png", encoding="latin-1") as text, pytest.raises(ImageError, match="binary mode"):
        load_image(text)
    closed = io.BytesIO(b"x")
    closed.close()
    with pytest.raises(ImageError, match="closed file"):
        load_image(closed)
    for name, words in {"": "is empty", "/dev/null": "pipe or a device"}.items():
        with pytest.raises(ImageError, match=words):
            load_image(name)


# --- something else --------------------------------------------------------------------------------------------------

OTHERS = {
    "SVG drawing": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "PDF document": b"%PDF-1.7\n%\xe2\xe3",
    "HTML page": b"\n<!DOCTYPE html><html><body>404</body></html>",
    "git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "JSON": json.dumps({"error": "not found"}).encode(),
    "ZIP archive": b"PK\x03\x04\x14\0\0\0",
    r"video \(MP4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2",
    "video .Matroska": b"\x1aE\xdf\xa3\x01\0\0\0",
    "base64": b"data:image/png;base64,iVBORw0KGgo=",
    "zero bytes only": bytes(5000),
    "text": "Grüße, hier ist kein Bild.".encode(),
    "link": b"https://example.org/cat.png\n",
    "XML": b'\xef\xbb\xbf<?xml version="1.0"?><rss/>',
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "Apple icon": b"icns\0\0\0\x10ic08\0\0\0\x08",
    "JPEG XL": b"\xff\x0a\xfa\x7f",
    "NumPy array": b"\x93NUMPY\x01\0",
    "._NAME": b"\0\x05\x16\x07\0\x02\0\0Mac OS X",
    "raw file": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    "HTML": "<html>".encode("utf-16"),
}


@pytest.mark.parametrize("words", OTHERS)
def test_files_that_are_something_else_are_named(words, tmp_path):
    """Named by their first bytes. Public: open-webui/open-webui issue 30100 (SVG)."""
    path = tmp_path / "cat.png"
    path.write_bytes(OTHERS[words])
    with pytest.raises(ImageError, match=f"no image.*{words}") as caught:
        load_image(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and message.count(". ") >= 1 and "\n" not in message


def test_postscript_is_never_run(tmp_path, monkeypatch):
    """Pillow gives EPS to ghostscript; also an image that a program opened itself is refused before.

    Public: python-pillow/Pillow issue 7391, odoo/odoo issue 16837.
    """
    image = Image.open(io.BytesIO(encoded(Image.new("RGB", (4, 4)), "EPS")))
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("run"))
    with pytest.raises(ImageError, match="format EPS"):
        load_image(image)
    with pytest.raises(ImageError, match="PostScript"):
        load_image(encoded(Image.new("RGB", (4, 4)), "EPS"))


# --- what phones write -----------------------------------------------------------------------------------------------


def test_heic_is_read(monkeypatch):
    """HEIC through pillow-heif. Public: python-pillow/Pillow issue 2806."""
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    heif.from_pillow(Image.fromarray(gradient(64, 48))).save(buffer, quality=95)
    assert np.abs(np.asarray(load_image(buffer)).astype(int) - gradient(64, 48)).mean() < 4
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"HEIC.*pip install 'mobilevlm\[heif\]'"):
        load_image(buffer)


def test_avif_is_read():
    """AVIF through Pillow alone. Public: python-pillow/Pillow issue 7983."""
    data = encoded(Image.fromarray(gradient(64, 48)), "AVIF", quality=95)
    assert np.abs(np.asarray(load_image(data)).astype(int) - gradient(64, 48)).mean() < 4


def test_gain_map_and_motion_photo_show_their_picture():
    """Ultra HDR is a JPEG with a smaller gray one behind (MPO); a motion photo has an MP4 behind it.

    Public: python-pillow/Pillow issue 8052 (a gain map), deckerst/aves issue 1424 (a motion photo).
    """
    photo = encoded(Image.fromarray(gradient()), "JPEG", quality=95)
    expected = np.asarray(load_image(photo))
    gain_map = Image.new("L", (12, 8), 128)
    ultra_hdr = encoded(Image.fromarray(gradient()), "MPO", save_all=True, append_images=[gain_map], quality=95)
    motion = photo + b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(5000)
    for data in (ultra_hdr, photo + encoded(gain_map, "JPEG"), motion):
        np.testing.assert_array_equal(np.asarray(load_image(data)), expected)


def test_array_of_exactly_the_towers_shape_is_taken_for_preprocessed():
    """Any other shape or dtype is an image: normalised values in it are refused, not asked about."""
    spec = ImageSpec(28)
    values = preprocess(load_image(PIXELS), spec)
    view = np.asfortranarray(values)
    for given in (values, view):
        got = pixel_values(given, spec)
        assert got.flags.c_contiguous
        np.testing.assert_array_equal(got, values)
    np.testing.assert_array_equal(pixel_values(PIXELS, spec), values)
    for other in (values[..., :20], values.astype(np.float64)):
        with pytest.raises(ImageError, match="neither 0..1 nor 0..255"):
            pixel_values(other, spec)
