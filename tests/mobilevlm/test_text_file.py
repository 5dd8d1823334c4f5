"""Text files as Windows editors, PowerShell and exports write them, against Python's own codecs.

Public reports: PowerShell's `>` writes UTF-16 with a mark, Notepad a UTF-8 mark; both reach loaders as
"Unexpected UTF-8 BOM" and "'utf-8' codec can't decode byte 0xff in position 0".
"""

from __future__ import annotations

import pytest

from mobilevlm.text_file import EncodingError, decode_text, read_text

TEXT = '{"name": "Fußgänger 歩行者 🙂"}\r\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_with_a_mark(tmp_path, encoding):
    path = tmp_path / "config.json"
    path.write_bytes(TEXT.encode(encoding))
    assert read_text(path) == TEXT


@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("width", [16, 32])
def test_both_byte_orders(order, width):
    assert decode_text(("\ufeff" + TEXT).encode(f"utf-{width}-{order}"), "a") == TEXT


@pytest.mark.parametrize(
    ("content", "guess"),
    [
        ("Fußgänger".encode("latin-1"), "Latin-1"),
        ("歩行者 und mehr".encode("utf-16-le"), "UTF-16 without"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "binary"),
        (b"\xef\xbb\xbfa\xff", "damaged UTF-8"),
        (b"\xff\xfe\x00\xd8a\x00", "damaged UTF-16-LE"),
    ],
)
def test_others_are_named(tmp_path, content, guess):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(EncodingError, match=guess) as error:
        read_text(path)
    assert str(path) in str(error.value)
    assert "save it as UTF-8" in str(error.value)
