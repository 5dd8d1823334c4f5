"""Signatures of bundles in minisign's format: Ed25519 over `bundle.json`, which holds the hashes of all other files.

Format: https://jedisct1.github.io/minisign/#signature-format. Keys are those of `minisign -G`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mobilevlm.errors import UserError, user_path

from .json_file import open_regular

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ALGORITHM, PREHASHED = b"Ed", b"ED"  # of a key; of a signature, which is that of the content's BLAKE2b-512
KEY_BYTES, SIGNATURE_BYTES = 2 + 8 + 32, 2 + 8 + 64  # algorithm, id of the key, key or signature
LONGEST_FILE = 1 << 14
UNTRUSTED, TRUSTED = "untrusted comment: ", "trusted comment: "
INSTALL = "pip install 'mobilevlm[sign]' (in a clone: pip install cryptography)"


class SignatureError(UserError):
    """A signature or key that is refused; the message names the file."""


@dataclass(frozen=True)
class PublicKey:
    """Key that signatures are checked with.

    Attributes:
        path: of its file.
        key_id: 8 bytes that signatures name it by.
        key: Ed25519.
    """

    path: Path
    key_id: bytes
    key: Ed25519PublicKey


@dataclass(frozen=True)
class SecretKey:
    """Key that bundles are signed with.

    Attributes:
        key_id: 8 bytes that signatures name it by.
        key: Ed25519.
    """

    key_id: bytes
    key: Ed25519PrivateKey


def read_public_key(path: str | Path) -> PublicKey:
    """Reads a `.pub` file of minisign.

    Raises:
        SignatureError: it is no such file, or `cryptography` is not installed.
    """
    place = user_path(path)
    lines = read_lines(place, "public key")
    raw = decoded(lines[1] if len(lines) > 1 else lines[0])
    if len(raw) != KEY_BYTES or not raw.startswith(ALGORITHM):
        raise SignatureError(f"{place} is no public key of minisign: give the .pub file that minisign -G made")
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise SignatureError(f"checking signatures needs cryptography: {INSTALL}") from None
    return PublicKey(place, raw[2:10], Ed25519PublicKey.from_public_bytes(raw[10:]))


def require_signed(content: bytes, signature: Path, trusted: Sequence[PublicKey]) -> None:
    """Checks a signature.

    Args:
        content: that was signed.
        signature: the file.
        trusted: keys of which one has to have signed.

    Raises:
        SignatureError: the signature is missing, damaged, of another key, or of other content.
    """
    from cryptography.exceptions import InvalidSignature

    names = ", ".join(str(key.path) for key in trusted)
    if not signature.exists():
        raise SignatureError(f"it is not signed ({signature.name} is missing), and only {names} is trusted")
    lines = read_lines(signature, "signature")
    if len(lines) < 4 or not lines[2].startswith(TRUSTED):
        raise SignatureError(f"{signature.name} is no signature of minisign")
    raw, whole = decoded(lines[1]), decoded(lines[3])
    if len(raw) != SIGNATURE_BYTES or not raw.startswith((ALGORITHM, PREHASHED)):
        raise SignatureError(f"{signature.name} is no signature of minisign")
    key = next((key for key in trusted if key.key_id == raw[2:10]), None)
    if key is None:
        raise SignatureError(f"it is signed with key {key_name(raw[2:10])}, and only {names} is trusted")
    try:
        key.key.verify(raw[10:], hashed(content) if raw.startswith(PREHASHED) else content)
        key.key.verify(whole, raw[10:] + lines[2][len(TRUSTED) :].encode())
    except InvalidSignature:
        raise SignatureError(f"{signature.name} does not belong to it: one of the two was altered") from None


def signed(content: bytes, key: SecretKey, name: str) -> bytes:
    """Returns the content of a signature file.

    Args:
        content: to sign.
        key: to sign with.
        name: of the file with the content, for the comment.
    """
    raw = PREHASHED + key.key_id + key.key.sign(hashed(content))
    comment = f"timestamp:{int(time.time())}\tfile:{name}\thashed"
    whole = key.key.sign(raw[10:] + comment.encode())
    lines = (
        f"{UNTRUSTED}signature of an engine bundle, made with key {key_name(key.key_id)}",
        base64.b64encode(raw).decode(),
        f"{TRUSTED}{comment}",
        base64.b64encode(whole).decode(),
    )
    return ("\n".join(lines) + "\n").encode()


def hashed(content: bytes) -> bytes:
    """Returns the BLAKE2b-512 hash, which minisign signs."""
    return hashlib.blake2b(content).digest()


def key_name(key_id: bytes) -> str:
    """Returns the id of a key as minisign shows it."""
    return key_id[::-1].hex().upper()


def read_lines(path: Path, what: str) -> list[str]:
    """Reads the lines of a key or signature.

    Args:
        path: of the file.
        what: it is, for the message.

    Raises:
        SignatureError: it cannot be read, is empty, or is no text.
    """
    try:
        with open_regular(path) as file:
            text = file.read(LONGEST_FILE).decode()
    except OSError as error:
        raise SignatureError(f"the {what} {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SignatureError(f"the {what} {path} is no text") from None
    lines = text.splitlines()
    if not lines:
        raise SignatureError(f"the {what} {path} is empty")
    return lines


def decoded(line: str) -> bytes:
    """Returns the bytes of a line of base64; none where it is something else."""
    try:
        return base64.b64decode(line.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""
