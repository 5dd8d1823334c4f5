"""Colour profiles, Lab and deep gray against formulas and LittleCMS's own programs."""

import io
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin, TiffTags

from mobilevlm.image import ImageError, load_image
from tests.mobilevlm.icc_profiles import ADOBE_RGB, DISPLAY_P3, ink_profile, rgb_profile, to_srgb
from tests.mobilevlm.test_image import encoded, gradient, noise

SPACES = {"Display P3": (DISPLAY_P3, 2.2), "Adobe RGB": (ADOBE_RGB, 2.19921875)}


def loaded(source) -> np.ndarray:
    return np.asarray(load_image(source)).astype(int)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_profiles_of_rgb_become_srgb(format, space):
    """RGB profiles by their formulas. Public: cgwire/zou pull request 1188, Comfy-Org/ComfyUI pull request 11241."""
    profile = rgb_profile(*SPACES[space])
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(format, {})
    data = encoded(Image.fromarray(gradient()), format, icc_profile=profile, **options)
    stored = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.abs(loaded(data) - to_srgb(stored, *SPACES[space])).max() <= 2
    assert np.abs(loaded(data) - stored.astype(int)).max() > 10


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA"])
def test_profiles_apply_under_transparency_and_to_palettes(mode):
    profile = rgb_profile(*SPACES["Adobe RGB"])
    image = Image.fromarray(gradient()).convert(mode)
    expected = to_srgb(np.asarray(image.convert("RGB")), *SPACES["Adobe RGB"]).astype(int)
    assert np.abs(loaded(encoded(image, "PNG", icc_profile=profile)) - expected).max() <= 2


def test_srgb_profile_changes_no_pixel():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = noise(40, 30)
    np.testing.assert_array_equal(loaded(encoded(Image.fromarray(pixels), "PNG", icc_profile=profile)), pixels)


@pytest.mark.parametrize("damage", ["cut", "zeros", "text", "other space", "bits"])
def test_damaged_profile_is_as_none(damage):
    """Profiles that nobody can open. Public: psd-tools/psd-tools pull request 484, ocrmypdf/OCRmyPDF issue 706."""
    whole = rgb_profile(*SPACES["Adobe RGB"])
    profiles = {"cut": whole[:200], "zeros": bytes(500), "text": b"profile" * 30, "other space": ink_profile()}
    profile = profiles.get(damage, whole[:140] + b"\xff" * 60 + whole[200:])
    pixels = noise(20, 10)
    np.testing.assert_array_equal(loaded(encoded(Image.fromarray(pixels), "PNG", icc_profile=profile)), pixels)


def test_large_pictures_convert_in_strips_as_whole(monkeypatch):
    data = encoded(Image.fromarray(noise(300, 200, 4)), "PNG", icc_profile=rgb_profile(*SPACES["Display P3"]))
    whole = loaded(data)
    monkeypatch.setattr("mobilevlm.images.color._STRIP_PIXELS", 1000)
    np.testing.assert_array_equal(loaded(data), whole)


def run_tool(*words) -> None:
    if shutil.which(str(words[0])) is None:
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("space", [*SPACES, "CMYK"])
def test_profiles_as_little_cms_converts_them(space, tmp_path):
    """`tificc` reads the profile that is embedded, and writes sRGB by default. Public: cgwire/zou pull request 1188."""
    image = Image.fromarray(noise(64, 48, 4 if space == "CMYK" else 3), "CMYK" if space == "CMYK" else "RGB")
    image.save(tmp_path / "in.tif", icc_profile=ink_profile() if space == "CMYK" else rgb_profile(*SPACES[space]))
    run_tool("tificc", tmp_path / "in.tif", tmp_path / "out.tif")
    expected = np.asarray(Image.open(io.BytesIO((tmp_path / "out.tif").read_bytes()))).astype(int)
    assert np.abs(loaded(tmp_path / "in.tif") - expected).max() <= 2


@pytest.mark.parametrize("space", SPACES)
def test_photo_as_jpgicc_converts_it(space, tmp_path):
    flat = Image.new("RGB", (16, 16), (40, 200, 90))
    flat.save(tmp_path / "in.jpg", quality=100, subsampling=0, icc_profile=rgb_profile(*SPACES[space]))
    run_tool("jpgicc", "-q", "100", tmp_path / "in.jpg", tmp_path / "out.jpg")
    expected = np.asarray(Image.open(io.BytesIO((tmp_path / "out.jpg").read_bytes()))).astype(int)
    assert np.abs(loaded(tmp_path / "in.jpg") - expected).max() <= 2


# Lab (L of 0..255, a and b with a sign) and its sRGB, by the formulas of CIE and IEC 61966-2-1, adapted from D50.
LAB_COLORS = {
    (135, 67, 53): (214, 55, 46),  # L 53, a 67, b 53
    (255, 0, 0): (255, 255, 255),
    (0, 0, 0): (0, 0, 0),
    (128, 0, 0): (119, 119, 119),
}


@pytest.mark.parametrize("lab", LAB_COLORS)
def test_lab_tiff_is_within_two_levels(lab, tmp_path):
    """Lab against its formulas. Public: ImageMagick/ImageMagick issue 4105."""
    bands = [Image.new("L", (4, 4), value) for value in (lab[0], lab[1] ^ 128, lab[2] ^ 128)]  # Pillow's own order
    Image.merge("LAB", bands).save(tmp_path / "lab.tif")
    assert np.abs(loaded(tmp_path / "lab.tif")[0, 0] - lab_to_srgb(lab)).max() <= 2


def lab_to_srgb(lab) -> np.ndarray:
    lightness, a, b = lab[0] / 2.55, *(value - 256 if value > 127 else value for value in lab[1:])
    y = (lightness + 16) / 116
    ratios = np.array([y + a / 500, y, y - b / 200])
    linear = np.where(ratios > 6 / 29, ratios**3, 3 * (6 / 29) ** 2 * (ratios - 4 / 29)) * (0.9642, 1, 0.8249)
    to_linear = [[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]]
    channels = np.clip(np.array(to_linear) @ linear, 0, 1)
    return np.rint(255 * np.where(channels <= 0.0031308, 12.92 * channels, 1.055 * channels ** (1 / 2.4) - 0.055))


def test_lab_as_little_cms_converts_it(tmp_path):
    """Lab against LittleCMS's own program. Public: ImageMagick/ImageMagick issue 4105."""
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    ImageCms.applyTransform(Image.fromarray(gradient()), to_lab).save(tmp_path / "lab.tif")
    run_tool("tificc", "-i", "*Lab", tmp_path / "lab.tif", tmp_path / "out.tif")
    expected = np.asarray(Image.open(io.BytesIO((tmp_path / "out.tif").read_bytes()))).astype(int)
    assert np.abs(loaded(tmp_path / "lab.tif") - expected).max() <= 2


# --- deep gray -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("white", [255, 65535, 2**31 - 1, 2**32 - 1])
def test_integers_of_32_bits_are_scaled_by_their_range(white):
    """Values to 255, to 65535 and to the largest integer. Public: python-pillow/Pillow issue 2574."""
    values = np.linspace(0, white, 64, dtype=np.float64).round().astype(np.uint32)[None]
    data = encoded(Image.fromarray(values.view(np.int32)), "TIFF")
    if white == 2**32 - 1:  # Pillow writes SampleFormat 2, signed: a file of unsigned ones says 1
        tag = data.index(b"\x53\x01\x03\x00\x01\x00\x00\x00\x02")
        data = data[: tag + 8] + b"\x01" + data[tag + 9 :]
    np.testing.assert_allclose(loaded(data)[..., 0], values / white * 255, atol=0.51)


@pytest.mark.parametrize("values", [[0, 70_000], [0, 2**24 - 1], [-5, 100]])
def test_integers_of_an_unknown_range_are_refused(values):
    """Nothing tells which value is white. Public: python-pillow/Pillow pull request 3838."""
    with pytest.raises(ImageError, match="cannot be known.*8-bit PNG"):
        load_image(encoded(Image.fromarray(np.array([values], np.int32)), "TIFF"))


def test_twenty_bits_are_read_where_the_file_states_its_maximum():
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[281], tags.tagtype[281] = 2**20 - 1, TiffTags.LONG  # MaxSampleValue
    data = encoded(Image.fromarray(np.array([[0, 2**19, 2**20 - 1]], np.int32)), "TIFF", tiffinfo=tags)
    np.testing.assert_array_equal(loaded(data)[0, :, 0], [0, 128, 255])


def test_dark_16_bit_pgm_stays_dark():
    """A PGM states its maximum: values below 256 of 65535 are dark, not 8-bit.

    Public: python-pillow/Pillow issues 602 and 5403.
    """
    np.testing.assert_array_equal(loaded(b"P5 2 1 65535\n" + b"\0\0" + b"\0\xff")[0, :, 0], [0, 1])


def test_12_bit_and_inverted_16_bit_tiff():
    """Scaled by their bits, white where 0 is white.

    Public: python-pillow/Pillow issue 414, haraldk/TwelveMonkeys issue 637.
    """
    import struct

    def tiff(bits: int, photometric: int, body: bytes) -> bytes:
        tags = [(256, 4), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 200), (277, 1), (278, 1)]
        tags.append((279, len(body)))
        entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags)
        return (b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)).ljust(200, b"\0") + body

    twelve = loaded(tiff(12, 1, bytes([0xFF, 0xF8, 0x00, 0x00, 0x0F, 0xFF])))[0, :, 0]
    np.testing.assert_array_equal(twelve, [255, 128, 0, 255])
    inverted = loaded(tiff(16, 0, struct.pack("<4H", 0, 65535, 257, 32768)))[0, :, 0]
    np.testing.assert_array_equal(inverted, [255, 0, 254, 127])
