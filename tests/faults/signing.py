"""Keys of minisign that tests sign bundles with, and the text of their files."""

from __future__ import annotations

# Made by `minisign -G -W` for these tests.
KEYS = {
    "ours": (
        "RWQKbYGb1n/pUy927deSdWi20pkZQ5+vb2EmGXb15JqfKNHKyDTEz+SQ",
        "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACm2Bm9Z/6VPLcfJrdDxoVyXCLVDVRSpZoZiv/7QgubiCfB5z0hkRry927deSdWi20pkZQ5+vb2EmGXb15JqfKNHKyDTEz+SQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    ),
    "other": (
        "RWTK+qZlfA3XokcycXO+pOPeDLk53Q0q4qhJB/BdgtSFQ0OJG5SKnvpa",
        "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAyvqmZXwN16JqSUw1A6vU4a6fsmzqXb4QlD52MgefHTnooA3Wbtf6uUcycXO+pOPeDLk53Q0q4qhJB/BdgtSFQ0OJG5SKnvpaAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    ),
}
KEY_FILES = {
    f"{name}.{ending}": f"untrusted comment: minisign {comment} key\n{text}\n"
    for name, texts in KEYS.items()
    for ending, comment, text in zip(("pub", "key"), ("public", "encrypted secret"), texts, strict=True)
}
