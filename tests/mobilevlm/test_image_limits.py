"""Time and memory of reading: small files that cost much are refused or read smaller, each in its own process."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilevlm.image import ImageError, load_image
from tests.conftest import ROOT
from tests.mobilevlm.test_image import encoded, noise

PROGRAM = """
import sys, time
from mobilevlm.image import ImageError, load_image
begin = time.process_time()
try:
    size = load_image(sys.argv[1]).size
except ImageError as error:
    size = (0, 0)
seconds = time.process_time() - begin
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(*size, seconds, int(peak) / 1e3)
"""
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from Linux's /proc")


def test_a_long_tiff_that_is_turned_is_counted_twice():
    """Kind: 24 x 2,883,602 pixels in 2 kB, which Pillow turned in a second copy: 497 MB."""
    data = bytearray(encoded(Image.new("RGBA", (24, 18)), "TIFF", tiffinfo={274: 6}))
    kind = next(one for one in (3, 4) if struct.pack("<HHI", 257, one, 1) in data)
    entry = data.index(struct.pack("<HHI", 257, kind, 1))  # ImageLength
    data[entry : entry + 12] = struct.pack("<HHII", 257, 4, 1, 2_883_602)
    with pytest.raises(ImageError, match="2883602 x 24 pixels .* would take about 574 MB"):
        load_image(bytes(data))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, color: int, depth: int = 8, before: bytes = b"") -> bytes:
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    packer = zlib.compressobj(1)
    row = bytes(1 + width * channels * depth // 8)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    palette = chunk(b"PLTE", bytes(768)) if color == 3 else b""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + before + palette + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def text_chunk(size: int) -> bytes:
    return chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(size)))


def jpeg(width: int, height: int, **options) -> bytes:
    return encoded(Image.new("RGB", (width, height), "teal"), "JPEG", **options)


def tiff_of_one_tile(edge: int) -> bytes:
    """A picture of 40 x 40 pixels in a tile of `edge` x `edge`, a few kB."""
    tags = {256: 40, 257: 40, 258: 8, 259: 8, 262: 1, 277: 1, 322: edge, 323: edge, 324: 300, 325: 5000}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return (b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)).ljust(300, b"\0") + bytes(6000)


def jpeg_of_many_scans(scans: int) -> bytes:
    data = jpeg(2000, 2000, progressive=True)
    last = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + last * scans + b"\xff\xd9"


def many_tags() -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 1, 20_000_000, 0) for tag in range(65535))
    return b"II*\0" + struct.pack("<IH", 8, 65535) + entries + bytes(20_000_000)


def jpeg_with_exif(exif: bytes) -> bytes:
    parts = [b"Exif\0\0" + exif[at : at + 65000] for at in range(0, len(exif), 65000)]
    data = jpeg(16, 16)
    return data[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts) + data[2:]


def icon(inner: bytes) -> bytes:
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


TURNED = Image.Exif()
TURNED[0x0112] = 6
COSTLY = {  # what is tried, whether it has to be read
    "100 MP JPEG": (lambda: jpeg(12_500, 8000), True),
    "100 MP progressive JPEG": (lambda: jpeg(12_500, 8000, progressive=True), True),
    "panorama of 24,000 pixels": (lambda: jpeg(24_000, 4000), True),
    "50 MP JPEG on its side": (lambda: jpeg(8160, 6120, exif=TURNED), True),
    "178 MP gray PNG": (lambda: png(17_000, 10_500, 0), True),
    "178 MP palette PNG": (lambda: png(17_000, 10_500, 3), True),
    "100 MP 16-bit gray PNG": (lambda: png(10_000, 10_000, 0, 16), True),
    "64 MP transparent PNG": (lambda: png(8000, 8000, 6), True),
    "PNG of 1.6 GB": (lambda: png(13_300, 13_300, 4, 8), False),
    "PNG of 4 million chunks": (lambda: png(9, 9, 2, before=chunk(b"abCd", b"") * 4_000_000), False),
    "PNG with 200 MB of text": (lambda: png(9, 9, 2, before=text_chunk(200_000_000)), False),
    "TIFF of a few kB that takes 0.9 GB": (lambda: tiff_of_one_tile(30_000), False),
    "TIFF of 65,535 tags": (many_tags, False),
    "JPEG of 3,000 scans": (lambda: jpeg_of_many_scans(3000), False),
    "JPEG with 20 MB of EXIF": (lambda: jpeg_with_exif(many_tags()), False),
    "JPEG of 12 million comments": (lambda: b"\xff\xd8" + b"\xff\xfe\0\2" * 12_000_000 + jpeg(9, 9)[2:], False),
    "icon of 160 MP": (lambda: icon(png(16_000, 10_000, 2)), False),
    "25 MP WebP": (lambda: encoded(Image.new("RGB", (5000, 5000)), "WEBP"), False),
    "plain PPM": (lambda: b"P3 2000 2000 255\n" + b"1 2 3 " * 4_000_000, False),
}  # fmt: skip

QUICK = (  # to make
    *("100 MP JPEG", "50 MP JPEG on its side", "TIFF of a few kB that takes 0.9 GB", "PNG of 1.6 GB"),
    *("TIFF of 65,535 tags", "JPEG of 3,000 scans", "JPEG with 20 MB of EXIF"),
)


@linux
@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in COSTLY]
)
def test_costly_files_take_two_seconds_and_400_mb_at_most(kind, tmp_path):
    """Small files that cost much. Public: python-pillow/Pillow issue 515, tracefinity/tracefinity issue 178."""
    make, has_to_be_read = COSTLY[kind]
    (tmp_path / "picture").write_bytes(make())
    words = [sys.executable, "-c", PROGRAM, str(tmp_path / "picture")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr[-500:]
    width, _, seconds, megabytes = (float(word) for word in done.stdout.split())
    assert (width > 0) == has_to_be_read
    assert megabytes <= 400, f"{megabytes:.0f} MB"
    assert seconds <= 2 * 2, f"{seconds:.1f} s"  # of CPU time; twice, for machines that do other things at once


def test_larger_limit_is_named_and_lifts_the_refusal():
    """A person's own large image. Public: python-pillow/Pillow issue 5218, ksugar/qupath-extension-sam issue 20."""
    data = b"P3 1500 1000 255\n" + b"1 2 3 " * 1_500_000
    with pytest.raises(ImageError, match="1500 x 1000 pixels.* s. Shrink.*--max-pixels 1500000"):
        load_image(data)
    assert load_image(data, max_pixels=1_500_000).size == (1500, 1000)


def test_smaller_limit_refuses():
    data = encoded(Image.fromarray(noise(40, 30)), "PNG")
    assert load_image(data, max_pixels=1200).size == (40, 30)
    with pytest.raises(ImageError, match="40 x 30 pixels, the limit is 1199"):
        load_image(data, max_pixels=1199)
    with pytest.raises(ImageError, match="max_pixels is 0"):
        load_image(data, max_pixels=0)


def test_icns_that_ended_in_an_assertion_are_refused():
    """97 changed ICNS files ended in Pillow's AssertionError; the format is not read any more."""
    data = encoded(Image.fromarray(noise(128, 128)), "ICNS")
    for at in range(0, 300, 3):
        with pytest.raises(ImageError, match="no image"):
            load_image(data[:at] + b"\xff" + data[at + 1 :] if at > 8 else data)


def test_pictures_that_are_read_smaller_look_the_same():
    """A turned palette picture that is reduced, against Pillow's own reduction."""
    from mobilevlm.images.color import to_rgb

    image = Image.fromarray(noise(301, 203)).quantize()
    got = np.asarray(to_rgb(image, "it", reduction=4)).astype(int)
    np.testing.assert_array_equal(got, np.asarray(image.convert("RGB").reduce(4)))
    assert Image.open(io.BytesIO(jpeg(9, 9))).size == load_image(jpeg(9, 9)).size
