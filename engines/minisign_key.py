"""Secret keys of minisign, with or without a password; see `signature.py` for what is signed.

Format: https://jedisct1.github.io/minisign/#secret-key-format.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import struct
import sys
from pathlib import Path

from mobilevlm.errors import user_path

from .signature import ALGORITHM, INSTALL, SecretKey, SignatureError, decoded, read_lines

# Algorithms, salt, limits of operations and memory; then what a password's stream covers: id of the key, the key with
# its public half, checksum.
FRONT, SECRET = struct.Struct("<2s2s2s32sQQ"), struct.Struct("<8s64s32s")
SCRYPT, NO_PASSWORD, BLAKE2B = b"Sc", b"\0\0", b"B2"
NO_CHECKSUM = bytes(32)  # of a key without a password
MOST_MEMORY = 1 << 31
PASSWORD_VARIABLE = "MOBILEVLM_SIGN_PASSWORD"


def read_secret_key(path: str | Path) -> SecretKey:
    """Reads a key that `minisign -G` made; asks for its password, or takes it from `PASSWORD_VARIABLE`.

    Raises:
        SignatureError: it is no such file, the password is wrong, or `cryptography` is not installed.
    """
    place = user_path(path)
    raw = decoded(read_lines(place, "secret key")[-1])
    if len(raw) != FRONT.size + SECRET.size or not raw.startswith(ALGORITHM):
        raise SignatureError(f"{place} is no secret key of minisign: make one with minisign -G")
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise SignatureError(f"signing needs cryptography: {INSTALL}") from None
    algorithm, derivation, checksum, salt, operations, memory = FRONT.unpack_from(raw)
    if derivation not in (SCRYPT, NO_PASSWORD) or checksum != BLAKE2B or memory > MOST_MEMORY:
        raise SignatureError(f"{place} is a secret key of another version of minisign: make one with minisign -G")
    covered = raw[FRONT.size :]
    if derivation == SCRYPT:
        stream = _stream(_password(place), salt, operations, memory)
        covered = bytes(one ^ other for one, other in zip(covered, stream, strict=True))
    key_id, key, digest = SECRET.unpack(covered)
    expected = hashlib.blake2b(algorithm + key_id + key, digest_size=32).digest()
    if digest != (expected if derivation == SCRYPT else NO_CHECKSUM):
        raise SignatureError(f"the password of {place} is wrong, or the file is damaged")
    return SecretKey(key_id, Ed25519PrivateKey.from_private_bytes(key[:32]))


def _password(path: Path) -> bytes:
    known = os.environ.get(PASSWORD_VARIABLE)
    if known is None and not sys.stdin.isatty():
        raise SignatureError(f"{path} has a password: put it into {PASSWORD_VARIABLE}")
    return (getpass.getpass(f"password of {path}: ") if known is None else known).encode()


def _stream(password: bytes, salt: bytes, operations: int, memory: int) -> bytes:
    """Derives the bytes that cover a key, with the costs that libsodium chooses for its limits."""
    operations, block = max(operations, 32768), 8
    most = operations // (block * 4) if operations < memory // 32 else memory // (block * 128)
    log_cost = next((bits for bits in range(1, 63) if 1 << bits > most // 2), 62)
    parallel = 1 if operations < memory // 32 else min(operations // 4 >> log_cost, 0x3FFFFFFF) // block
    try:
        return hashlib.scrypt(
            password, salt=salt, n=1 << log_cost, r=block, p=parallel, maxmem=MOST_MEMORY - 1, dklen=SECRET.size
        )
    except (ValueError, MemoryError) as error:
        raise SignatureError(f"the password's key cannot be derived here: {error}") from None
