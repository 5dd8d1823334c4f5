"""Names what a file is that is no image, by its first bytes, and what to do with it."""

from __future__ import annotations

import re

HEAD_BYTES = 2048  # of a file, that are looked at
_CONVERT = "Convert it to JPEG or PNG"
_FRAME = "Extract a frame, e.g. with ffmpeg -i FILE -frames:v 1 frame.png"
_MAGIC = (  # offset, bytes, what it is, what to do
    (0, b"%PDF", "a PDF document", "Convert the page to PNG, e.g. with pdftoppm -png"),
    (0, b"%!PS", "a PostScript document, which is a program and not run", "Convert the page to PNG"),
    (0, b"\xc5\xd0\xd3\xc6", "an EPS document, which is a program and not run", "Convert it to PNG"),
    (0, b"\xff\x0a", "a JPEG XL image", _CONVERT),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image", _CONVERT),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw file", "Develop it to JPEG or PNG first"),
    (0, b"IIRO", "a camera's raw file", "Develop it to JPEG or PNG first"),
    (0, b"IIU\0", "a camera's raw file", "Develop it to JPEG or PNG first"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image", _CONVERT),
    (0, b"#?RADIANCE", "a Radiance HDR image", _CONVERT),
    (128, b"DICM", "a DICOM file", "Export the image as PNG"),
    (0, b"icns", "an Apple icon (ICNS)", _CONVERT),
    (0, b"gimp xcf", "a GIMP project", "Export it as PNG"),
    (0, b"DDS ", "a DDS texture", _CONVERT),
    (0, b"AT&TFORM", "a DjVu document", "Convert the page to PNG"),
    (0, b"SIMPLE  =", "a FITS file", _CONVERT),
    (0, b"\xd7\xcd\xc6\x9a", "a Windows metafile, which is drawn and not decoded", "Convert it to PNG"),
    (0, b"\x01\0\0\0", "a Windows metafile, an icon or a program's data", "Convert it to PNG"),
    (0, b"/* XPM */", "an XPM image", _CONVERT),
    (0, b"\x1aE\xdf\xa3", "a video (Matroska or WebM)", _FRAME),
    (0, b"FLV", "a video (FLV)", _FRAME),
    (0, b"\0\0\x01\xba", "a video (MPEG)", _FRAME),
    (0, b"\0\0\x01\xb3", "a video (MPEG)", _FRAME),
    (8, b"AVI ", "a video (AVI)", _FRAME),
    (8, b"WAVE", "a sound (WAV)", "Give an image file"),
    (0, b"OggS", "a sound or video (Ogg)", "Give an image file"),
    (0, b"ID3", "a sound (MP3)", "Give an image file"),
    (0, b"fLaC", "a sound (FLAC)", "Give an image file"),
    (0, b"PK\x03\x04", "a ZIP archive (or an Office document or app)", "Unpack it and give the image in it"),
    (0, b"PK\x05\x06", "an empty ZIP archive", "Give an image file"),
    (0, b"\x1f\x8b", "a gzip archive", "Unpack it and give the image in it"),
    (0, b"BZh", "a bzip2 archive", "Unpack it and give the image in it"),
    (0, b"\xfd7zXZ\0", "an xz archive", "Unpack it and give the image in it"),
    (0, b"(\xb5/\xfd", "a Zstandard archive", "Unpack it and give the image in it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "Unpack it and give the image in it"),
    (0, b"Rar!", "a RAR archive", "Unpack it and give the image in it"),
    (257, b"ustar", "a tar archive", "Unpack it and give the image in it"),
    (0, b"\xd0\xcf\x11\xe0", "an old Office document or a thumbnail cache", "Export the image in it as PNG"),
    (0, b"{\\rtf", "an RTF document", "Export the image in it as PNG"),
    (0, b"\0\x05\x16\x07", "macOS's record beside a file (._NAME), not the file", "Give the file without the dot"),
    (0, b"\x4c\0\0\0\x01\x14\x02\0", "a Windows shortcut, not the file it points to", "Give the file itself"),
    (0, b"SQLite format 3", "a database (SQLite)", "Export the image in it"),
    (0, b"\x7fELF", "a program", "Give an image file"),
    (0, b"MZ", "a program", "Give an image file"),
    (0, b"\x93NUMPY", "a NumPy array", "Pass numpy.load(FILE) itself, or convert it to PNG"),
    (0, b"\x89HDF", "an HDF5 file", "Convert the image in it to PNG"),
    (0, b"GGUF", "a model's weights (GGUF)", "Give an image file"),
    (0, b"\x80\x04\x95", "a Python pickle, which is not opened", "Convert the image in it to PNG"),
)  # fmt: skip
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2")
_AVIF_BRANDS = (b"avif", b"avis")


def is_heif(head: bytes) -> bool:
    """Whether a file is HEIF that is not AVIF, as phones write it."""
    return head[4:8] == b"ftyp" and not _has_brand(head, _AVIF_BRANDS) and _has_brand(head, _HEIF_BRANDS)


def what_it_is(head: bytes) -> tuple[str, str]:
    """Names a file that is no image that can be read.

    Args:
        head: its first bytes, HEAD_BYTES where there are so many.

    Returns:
        What it is, to be put behind "is no image", and what to do.
    """
    if not head.strip(b"\0"):
        return "but zero bytes only, as an interrupted copy leaves them", "Copy or download it again"
    if head[4:8] == b"ftyp":
        if head[8:11] == b"crx":
            return "but a camera's raw file (CR3)", "Develop it to JPEG or PNG first"
        return "but a video (MP4 or QuickTime)", _FRAME
    for offset, magic, name, remedy in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return f"that can be read but {name}", remedy
    text = _as_text(head)
    return _named_text(text) if text is not None else ("that Pillow can read", _CONVERT)


def _has_brand(head: bytes, brands: tuple[bytes, ...]) -> bool:
    size = int.from_bytes(head[:4], "big")
    listed = head[8 : min(size, 256)]
    return any(listed[at : at + 4] in brands for at in range(0, len(listed), 4) if at != 4)


def _as_text(head: bytes) -> str | None:
    """Decodes the beginning of a text; None for anything else."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return head[: len(head) // 2 * 2].decode("utf-16", errors="replace")
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return None
        text = head[: error.start].decode("utf-8-sig")
    return None if re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]", text) else text.strip()


def _named_text(text: str) -> tuple[str, str]:
    start = text[:HEAD_BYTES].lower()
    if start.startswith("version https://git-lfs.github.com/spec/"):
        return "but a git-lfs pointer to one", "Fetch the file itself: git lfs pull"
    if "<svg" in start:
        return "of pixels but an SVG drawing", "Convert it to PNG, e.g. with rsvg-convert or inkscape"
    if start.startswith(("<!doctype html", "<html")) or "<html" in start or "<body" in start:
        return "but an HTML page, as a failed download leaves it", "Download the image itself again"
    if start.startswith("<"):
        return "but an XML document", "Give the image itself, as JPEG or PNG"
    if start.startswith(("data:image/", "ivborw0kggo", "/9j/", "r0lgod", "uklgr")):
        return "but one written in base64", "Decode it first, e.g. with base64 -d"
    if start.startswith(("{", "[")):
        return "but JSON, as an error of a server or a list of data", "Give the image itself, as JPEG or PNG"
    if start.startswith(("http://", "https://", "[internetshortcut]", "url=")):
        return "but a link to something", "Download what it names and give that"
    if start.startswith(("#define", "/* xpm", "static char")):
        return "that can be read but an X bitmap (XBM, XPM)", "Convert it to PNG"
    shown = " ".join(text.split())[:24]
    return f"but text ('{shown}')", "Convert what was meant to JPEG or PNG, or give another file"
