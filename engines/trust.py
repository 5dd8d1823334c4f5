"""Options `--trust` and `--sign` of commands that open and finish bundles, and what they do."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from mobilevlm.atomic_file import write_whole

from .minisign_key import read_secret_key
from .signature import SecretKey, SignatureError, read_public_key, require_signed, signed
from .stages import MANIFEST_FILE, NEXT_SIGNATURE_FILE, SIGNATURE_FILE

Trust: TypeAlias = str | Path | Sequence[str | Path]  # public keys, of which one has to have signed; empty for none


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Adds `--trust` to a command that opens a bundle; `arguments.trust` is a `Trust`."""
    parser.add_argument(
        "--trust", action="append", default=[], metavar="KEY.pub",
        help="open only a bundle that this key signed (docs/bundle_format.md); give it again for more",
    )  # fmt: skip


def add_sign(parser: argparse.ArgumentParser) -> None:
    """Adds `--sign` to a command that finishes a bundle; see `signing_key`."""
    parser.add_argument("--sign", metavar="KEY", help="sign the bundle with this secret key of minisign -G")


def signing_key(arguments: argparse.Namespace) -> SecretKey | None:
    """Reads the key of `--sign`, before any work is done; None without one.

    Raises:
        SignatureError: it cannot be read.
    """
    return read_secret_key(arguments.sign) if arguments.sign else None


def sign_bundle(directory: Path, key: SecretKey) -> None:
    """Signs a finished bundle, in place of an earlier signature.

    Args:
        directory: of the bundle.
        key: to sign with.
    """
    content = (directory / MANIFEST_FILE).read_bytes()
    write_whole(directory / SIGNATURE_FILE, signed(content, key, MANIFEST_FILE))
    (directory / NEXT_SIGNATURE_FILE).unlink(missing_ok=True)


def replace_manifest(directory: Path, content: bytes, key: SecretKey | None) -> None:
    """Writes `bundle.json` and its signature; a bundle that was signed opens with --trust at every moment in between.

    Args:
        directory: of the bundle.
        content: of the new `bundle.json`.
        key: to sign it with; None leaves the bundle without a signature.
    """
    if key is not None:
        write_whole(directory / NEXT_SIGNATURE_FILE, signed(content, key, MANIFEST_FILE))
    write_whole(directory / MANIFEST_FILE, content)
    if key is None:
        (directory / SIGNATURE_FILE).unlink(missing_ok=True)  # of the manifest that was replaced
        (directory / NEXT_SIGNATURE_FILE).unlink(missing_ok=True)
    else:
        (directory / NEXT_SIGNATURE_FILE).replace(directory / SIGNATURE_FILE)


def require_trusted(directory: Path, content: bytes, trust: Trust) -> bool:
    """Checks the signature of a bundle where keys are trusted.

    Args:
        directory: of the bundle.
        content: of its `bundle.json`.
        trust: the keys.

    Returns:
        Whether it was checked: whether there are keys.

    Raises:
        SignatureError: none of them signed it, or a key cannot be read.
    """
    keys = [read_public_key(path) for path in ([trust] if isinstance(trust, (str, Path)) else trust)]
    if keys:
        try:
            require_signed(content, directory / SIGNATURE_FILE, keys)
        except SignatureError:
            if not (directory / NEXT_SIGNATURE_FILE).exists():  # left where `replace_manifest` was killed
                raise
            require_signed(content, directory / NEXT_SIGNATURE_FILE, keys)
    return bool(keys)
