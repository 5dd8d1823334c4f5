"""`mobilevlm.image` against the original's goldens, transformers, plain Pillow, and pictures nobody should send."""

import io
import json
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, ImageOps

import mobilevlm.image
from mobilevlm.image import MAX_PIXELS, ImageError, ImageSpec, load_image, preprocess

GOLDEN = Path(__file__).parents[1] / "golden" / "_common"
CASES = json.loads((GOLDEN / "preprocess_index.json").read_text())
RESIZE = Image.Image.resize
CLIP_FILL = (122, 116, 104)
THIN_SIZES = [(1, 1), (1, 7), (7, 1), (3000, 3), (3, 3000), (112, 112), (113, 112), (2, 111)]


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Values of every size in 0..255, (height, width, channels) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def gradient(width: int = 48, height: int = 32) -> np.ndarray:
    """A picture JPEG hardly changes and whose eight orientations all differ, (height, width, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([4 * x + y, 3 * y, 255 - 3 * x], axis=-1).astype(np.uint8)


def random_sizes(count: int, largest: int, seed: int) -> list[tuple[int, int]]:
    return [tuple(size) for size in np.random.default_rng(seed).integers(1, largest, (count, 2)).tolist()]


def padded_square(image: Image.Image) -> Image.Image:
    """LLaVA's expand2square, whole in memory."""
    edge = max(image.size)
    square = Image.new("RGB", (edge, edge), CLIP_FILL)
    square.paste(image, ((edge - image.width) // 2, (edge - image.height) // 2))
    return square


def as_bytes(pixel_values: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """Undo the normalisation: (H, W, 3) uint8."""
    values = pixel_values[0].transpose(1, 2, 0) * np.float32(spec.std) + np.float32(spec.mean)
    return np.rint(values * 255).astype(np.uint8)


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png_of_one_bit(width: int, height: int) -> bytes:
    """A valid black PNG, without ever holding its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    row = bytes(1 + (width + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


# --- preprocess ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
def test_preprocess_matches_the_original(case):
    with np.load(GOLDEN / "preprocess.npz") as golden:
        expected = golden[f"{case['key']}_px"]
        image = Image.fromarray(golden[f"{case['key'].rsplit('_', 1)[0]}_img"])
    got = preprocess(image, ImageSpec(case["size"], aspect_ratio=case["mode"]))
    assert (got.dtype, got.shape, got.flags.c_contiguous) == (np.float32, expected.shape, True)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def resize_width_first(image: Image.Image, size: tuple[int, int], **options) -> Image.Image:
    """`Image.resize` in the order of older Pillow; newer ones (seen: 12.3, 13.0) may shrink the height first."""
    return RESIZE(RESIZE(image, (size[0], image.height), **options), size, **options)


# The shortest edge is the crop, as in every published tower; larger; and smaller, where transformers pads with zeros.
@pytest.mark.parametrize("shortest_edge", [None, 129, 83])
@pytest.mark.parametrize("aspect_ratio", ["pad", None])
def test_preprocess_matches_transformers(monkeypatch, aspect_ratio, shortest_edge):
    reference = pytest.importorskip("transformers").CLIPImageProcessorPil(
        size={"shortest_edge": shortest_edge or 112}, crop_size={"height": 112, "width": 112}
    )
    spec = ImageSpec(112, aspect_ratio=aspect_ratio, shortest_edge=shortest_edge)
    for size in THIN_SIZES + random_sizes(25, 500, seed=1):
        image = Image.fromarray(noise(*size))
        source = padded_square(image) if aspect_ratio == "pad" else image
        with monkeypatch.context() as patch:
            patch.setattr(Image.Image, "resize", resize_width_first)
            expected = reference(source, return_tensors="np")["pixel_values"]
        np.testing.assert_allclose(preprocess(image, spec), expected, rtol=0, atol=1e-6, err_msg=str(size))


@pytest.mark.parametrize("strip_pixels", [1, 1 << 12, 1 << 22])
def test_strips_equal_one_resize_of_the_padded_square(monkeypatch, strip_pixels):
    monkeypatch.setattr("mobilevlm.images.resize._STRIP_PIXELS", strip_pixels)
    spec = ImageSpec(56)
    for size in THIN_SIZES + random_sizes(40, 300, seed=2):
        image = Image.fromarray(noise(*size, seed=sum(size)))
        expected = np.asarray(padded_square(image).resize((56, 56), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(as_bytes(preprocess(image, spec), spec), expected, err_msg=str(size))


@pytest.mark.parametrize("size", [(2500, 120), (120, 2500)])
def test_padded_beyond_the_exact_edge_stays_within_a_few_gray_levels(monkeypatch, size):
    spec, image = ImageSpec(28), Image.fromarray(noise(*size))
    exact = as_bytes(preprocess(image, spec), spec).astype(int)
    monkeypatch.setattr(mobilevlm.image, "_LONGEST_EXACT_EDGE", 2400)
    reduced = as_bytes(preprocess(image, spec), spec).astype(int)
    assert 0 < np.abs(reduced - exact).max() <= 3


@pytest.mark.parametrize("size", [(2003, 7), (7, 2003), (2000, 1), (6, 2999)])
def test_cropped_beyond_the_exact_ratio_stays_within_one_gray_level(monkeypatch, size):
    spec, image = ImageSpec(56, aspect_ratio=None), Image.fromarray(noise(*size))
    exact = as_bytes(preprocess(image, spec), spec).astype(int)
    monkeypatch.setattr(mobilevlm.image, "_LARGEST_EXACT_RATIO", 100)
    seen = []
    tame = mobilevlm.image._tame
    monkeypatch.setattr(mobilevlm.image, "_tame", lambda *both: seen.append(tame(*both)) or seen[0])
    cut = as_bytes(preprocess(image, spec), spec).astype(int)
    assert max(seen[0].size) < 103 * min(size)
    assert np.abs(cut - exact).max() <= 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from Linux's /proc")
@pytest.mark.parametrize("aspect_ratio", ["pad", None])
@pytest.mark.parametrize("size", [(20_000, 10), (10, 20_000), (3_000_000, 1)])
def test_thin_pictures_stay_small_in_memory(tmp_path, size, aspect_ratio):
    """Padded or resized whole, each takes 0.9 GB and more. A process of its own, because a peak never goes down."""
    Image.new("RGB", size, "red").save(tmp_path / "thin.png")
    program = f"""
from mobilevlm.image import ImageSpec, load_image, preprocess
preprocess(load_image({str(tmp_path / "thin.png")!r}), ImageSpec(336, aspect_ratio={aspect_ratio!r}))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    root = Path(mobilevlm.image.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300 * 1024, f"peak {int(done.stdout) // 1024} MiB"


@pytest.mark.parametrize("image", [Image.new("L", (4, 4)), Image.new("RGB", (0, 4))], ids=["gray", "no pixels"])
def test_preprocess_refuses_what_load_image_never_returns(image):
    with pytest.raises(ImageError, match="use load_image"):
        preprocess(image, ImageSpec(28))


@pytest.mark.parametrize(
    "wrong",
    [
        *({"image_size": 0}, {"shortest_edge": 0}, {"mean": (0.5, 0.5)}, {"mean": (0.5, 0.5, 122.0)}),
        *({"std": (0.5,)}, {"std": (0.5, 0.0, 0.5)}, {"std": (0.5, float("nan"), 0.5)}),
    ],
    ids=str,
)
def test_spec_names_the_wrong_value(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError) as caught:
        ImageSpec(**{"image_size": 28, **wrong})
    assert name in str(caught.value) and str(value) in str(caught.value)


# --- load_image: pictures that work ----------------------------------------------------------------------------------


def test_every_kind_of_source_gives_the_same_picture(tmp_path):
    """Paths, bytes, files, PIL: one image. Public: abetlen/llama-cpp-python issue 1223 (a local image)."""
    path, pixels = tmp_path / "picture.png", noise(30, 20)
    Image.fromarray(pixels).save(path)
    for source in (path, str(path), path.read_bytes(), Image.open(path)):
        image = load_image(source)
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_rgb_passes_unchanged():
    image = Image.fromarray(noise(5, 4))
    assert load_image(image) is image


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr", "HSV", "CMYK"])
def test_modes_without_transparency_convert(mode):
    image = Image.fromarray(gradient()).convert(mode)
    np.testing.assert_array_equal(np.asarray(load_image(image)), np.asarray(image.convert("RGB")))


def test_lab_converts(tmp_path):
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    to_lab = ImageCms.buildTransform(srgb, lab, "RGB", "LAB")
    ImageCms.applyTransform(Image.fromarray(gradient()), to_lab).save(tmp_path / "lab.tif")
    got = np.asarray(load_image(tmp_path / "lab.tif")).astype(int)
    assert np.abs(got - gradient()).mean() < 3


def test_cmyk_jpeg_is_not_inverted(tmp_path):
    """Adobe, and so Pillow, stores the four inks of a JPEG inverted."""
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "ink.jpg")
    np.testing.assert_allclose(np.asarray(load_image(tmp_path / "ink.jpg")), np.full((16, 16, 3), (255, 0, 0)), atol=4)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_alpha_shows_white(mode, format):
    """White in transparent parts. Public: NousResearch/hermes-agent issue 64548, NVIDIA/DIGITS issue 85."""
    rgba = noise(16, 16, 4)
    rgba[:2, :, 3], rgba[2:4, :, 3] = 0, 255
    image = Image.fromarray(rgba).convert(mode)
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    values = np.asarray(image.convert("RGBA")).astype(float)
    color, alpha = values[..., :3], values[..., 3:] / 255
    got = np.asarray(load_image(encoded(image, format, **options)))
    np.testing.assert_allclose(got, color * alpha + 255 * (1 - alpha), atol=1)
    assert (got[:2] == 255).all()


def test_opaque_alpha_equals_convert():
    rgba = noise(16, 16, 4)
    rgba[..., 3] = 255
    np.testing.assert_array_equal(np.asarray(load_image(Image.fromarray(rgba))), rgba[..., :3])


@pytest.mark.parametrize("transparency", [1, b"\xff\x00\xff"], ids=["index", "table"])
def test_transparent_palette_entry_shows_white(transparency):
    """White in place of the entry's own colour. Public: python-pillow/Pillow issue 7288."""
    palette = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) % 3)
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    got = np.asarray(load_image(encoded(palette, "PNG", transparency=transparency)))
    table = np.array([[10, 20, 30], [255, 255, 255], [70, 80, 90]])
    np.testing.assert_array_equal(got, table[np.arange(12).reshape(3, 4) % 3])


def test_transparent_color_shows_white():
    """A colour or grey that a PNG names as transparent. Public: python-pillow/Pillow issues 421 and 3379."""
    pixels = np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8)
    got = load_image(encoded(Image.fromarray(pixels), "PNG", transparency=(4, 5, 6)))
    np.testing.assert_array_equal(np.asarray(got), [[[1, 2, 3], [255, 255, 255]]])


@pytest.mark.parametrize(
    ("format", "dtype"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("TIFF", "<i4"), ("PPM", "<i4")]
)
def test_deep_gray_keeps_its_gradient(format, dtype):
    """Pillow's own conversion turns every value above 255 white. Public: python-pillow/Pillow issues 1108 and 3011."""
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(dtype)
    got = np.asarray(load_image(encoded(Image.fromarray(values), format)))
    expected = np.round(values / 65535 * 255)
    np.testing.assert_array_equal(got, np.repeat(expected[..., None], 3, axis=-1))


def test_deep_gray_transparent_value_shows_white():
    values = np.array([[0, 300, 65535]], dtype=np.uint16)
    got = np.asarray(load_image(encoded(Image.fromarray(values), "PNG", transparency=300)))
    np.testing.assert_array_equal(got[..., 0], [[0, 255, 255]])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 1.5, 300.0], [0, 2, 255]),
        ([-3.0, 0.4, 0.9], [0, 0, 1]),
        ([float("nan"), 0.5, 1.0], [0, 128, 255]),
    ],
)
def test_float_gray_is_scaled_or_clipped(values, expected):
    image = Image.fromarray(np.array([values], dtype=np.float32))
    np.testing.assert_array_equal(np.asarray(load_image(encoded(image, "TIFF")))[0, :, 0], expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_as_pillow_transposes(orientation):
    """EXIF 1 to 8: upright. Public: ggml-org/llama.cpp issue 20870, ollama/ollama issue 18418."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(gradient()), "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(np.asarray(load_image(data)), expected)


def test_phone_photo_on_its_side_comes_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the viewer turns it 90 degrees clockwise
    Image.fromarray(np.rot90(gradient()).copy()).save(tmp_path / "photo.jpg", quality=95, exif=exif)
    got = np.asarray(load_image(tmp_path / "photo.jpg")).astype(int)
    assert got.shape == gradient().shape
    assert np.abs(got - gradient()).max() < 12


def test_damaged_exif_loses_neither_picture_nor_orientation():
    """ImageOps.exif_transpose of Pillow 13 raises AttributeError here: it cannot write the odd tag back.

    Public: python-pillow/Pillow issues 3973 and 4665.
    """
    tags = struct.pack("<HHII", 0x010F, 11, 1, 0) + struct.pack("<HHII", 0x0112, 3, 1, 6)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + tags + bytes(4)
    assert load_image(encoded(Image.fromarray(gradient()), "JPEG", exif=exif)).size == gradient().shape[:2]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_unreadable_exif_is_ignored(format, exif):
    """EXIF that nobody can parse: read as it lies. Public: python-pillow/Pillow issues 5528 and 8348."""
    assert load_image(encoded(Image.new("RGB", (8, 6)), format, exif=exif)).size == (8, 6)


@pytest.mark.parametrize(("format", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
def test_animation_gives_its_first_frame(format, options):
    """Frame 0 of each. Public: meme-search/meme-search pull request 191, openclaw/openclaw pull request 36662."""
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    data = encoded(red, format, save_all=True, append_images=[blue], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    np.testing.assert_array_equal(np.asarray(load_image(data)), np.asarray(red))


def test_large_but_allowed_is_silent(monkeypatch):
    data = encoded(Image.new("RGB", (150, 10)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(data).size == (150, 10)


def test_very_wide_loads():
    assert load_image(encoded(Image.new("L", (20_000, 10)), "PNG")).size == (20_000, 10)


# --- load_image: pictures that cannot work ---------------------------------------------------------------------------


def broken_files(directory: Path) -> dict[str, tuple[Path, str]]:
    """Each kind of unusable file, with words its message must hold."""
    picture = Image.fromarray(noise(64, 64))
    contents = {
        "empty.png": (b"", "0 bytes"),
        "letter.jpg": (b"Dear Sir or Madam, this is no picture.", "Convert"),
        "cut.jpg": (encoded(picture, "JPEG")[:-2000], "truncated"),
        "cut.png": (encoded(picture, "PNG")[:-4000], "truncated"),
        "cut.webp": (encoded(picture, "WEBP")[:-900], "cannot be read|no image"),
        "cut.gif": (encoded(picture.quantize(), "GIF")[:-1500], "truncated"),
        "flipped.png": (flipped(encoded(picture, "PNG"), 2000), "cannot be read"),
        "header.png": (encoded(picture, "PNG")[:20], "cannot be read|no image"),
    }
    for name, (data, _) in contents.items():
        (directory / name).write_bytes(data)
    (directory / "album").mkdir()
    others = {"album": "Name one image", "nowhere.png": "does not exist", "x" * 5000: "cannot be read", "a\0b": "."}
    words_of = {name: words for name, (_, words) in contents.items()} | others
    return {name: (directory / name, words) for name, words in words_of.items()}


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


def test_unusable_files_are_named_with_problem_and_remedy(tmp_path):
    """Damaged files: one sentence each. Public: modelscope/ms-swift issue 3275, hiyouga/LlamaFactory issue 8733."""
    for path, words in broken_files(tmp_path).values():
        with pytest.raises(ImageError, match=words) as caught:
            load_image(path)
        message = str(caught.value)
        shown = str(path).replace("\0", "\ufffd")
        assert message.startswith(shown) and message.count(". ") >= 1 and "\n" not in message


def test_unusable_bytes_and_pictures():
    closed = Image.open(io.BytesIO(encoded(Image.new("RGB", (4, 4)), "PNG")))
    closed.close()
    flat = Image.new("L", (0, 3))
    for source, words in [(b"", "0 bytes"), (b"hello", "no image"), (flat, "0 x 3"), (closed, "cannot be read")]:
        with pytest.raises(ImageError, match=words):
            load_image(source)


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "secret.png").chmod(0)
    with pytest.raises(ImageError, match="Permission denied"):
        load_image(tmp_path / "secret.png")


def test_too_many_pixels_are_refused_before_decoding(tmp_path, monkeypatch):
    path = tmp_path / "huge.png"
    path.write_bytes(png_of_one_bit(20_000, 20_000))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    for pillow_limit in (Image.MAX_IMAGE_PIXELS, None):  # None: an application switched Pillow's own check off
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
        with pytest.raises(ImageError, match=r"(400000000|20000 x 20000) pixels.*178956970.*Shrink") as caught:
            load_image(path)
        assert str(path) in str(caught.value)


def test_pixel_limit_is_the_one_of_pillow():
    assert MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "TGA", "ICO", "PCX", "JPEG2000"])
def test_random_damage_gives_a_picture_or_an_image_error(format):
    """Random bytes: nothing else is raised.

    Public: haotian-liu/LLaVA issue 1618 (a damaged image of a published set).
    """
    rng = np.random.default_rng(3)
    data = np.frombuffer(encoded(Image.fromarray(noise(24, 16)), format), dtype=np.uint8)
    refused = 0
    for _ in range(60):
        damaged = data[: rng.integers(1, len(data) + 1)].copy()
        hits = (rng.random(6) ** 2 * len(damaged)).astype(int)
        damaged[hits] = rng.integers(0, 256, len(hits))
        try:
            assert load_image(damaged.tobytes()).mode == "RGB"
        except ImageError:
            refused += 1
    assert refused > 0
