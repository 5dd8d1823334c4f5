"""Prefixes of a decoder that outlive its process: a prompt's whole pieces to a file, and from there to its cache."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path

from mobilevlm.errors import UserError
from mobilevlm.text.prompt import IMAGE_TOKEN_INDEX

from .decoder import Decoder
from .prefix_cache import PrefixCache
from .prefix_file import PrefixFile, PrefixHeader, write_prefix
from .prompt import Prompt, image_keys


def save_prefix(decoder: Decoder, prompt: Prompt, path: Path) -> int:
    """Prefills the whole pieces of a prompt, keeps them, and writes them to a file.

    Args:
        decoder: with a prefix cache.
        prompt: whose beginning is saved.
        path: of the file.

    Returns:
        Number of tokens that were saved.

    Raises:
        UserError: there is no prefix cache, the prompt has no whole piece, or the cache is too small for them.
    """
    prefixes = require_prefixes(decoder)
    with decoder.lock:
        tokens = decoder.keep_prefix(prompt)
        rows, header = prefixes.rows(prompt.pieces), _header(decoder, tokens)
    if not tokens:
        raise UserError(
            "this conversation has no beginning worth keeping: it needs an image, an answer, or a long text"
        )
    if len(rows) < len(prompt.pieces):
        raise UserError(
            f"{tokens} tokens do not fit into a prefix cache of {prefixes.most_bytes} bytes: open a larger one"
        )
    write_prefix(path, replace(header, tokens=_tokens(prompt, tokens)), rows)
    return tokens


def load_prefix(decoder: Decoder, path: Path) -> int:
    """Reads a file into the prefix cache.

    Args:
        decoder: with a prefix cache.
        path: of the file.

    Returns:
        Number of tokens in it.

    Raises:
        UserError: it is refused, see `PrefixFile`, or the cache is off or too small.
    """
    prefixes = require_prefixes(decoder)
    with decoder.lock:
        header = _header(decoder, 0)
    file = PrefixFile(path, header)
    if file.size > prefixes.most_bytes:
        raise UserError(f"the prefix {path} takes {file.size} bytes, the prefix cache holds {prefixes.most_bytes}")
    tokens, count = file.header.tokens, decoder.bundle.manifest.num_image_tokens
    images = {token: image_keys(token, count) for token in tokens if isinstance(token, str)}
    keys: list[Hashable] = file.keys(images)
    pieces = decoder.pieces([IMAGE_TOKEN_INDEX if isinstance(token, str) else token for token in tokens], keys)
    rows = file.read(pieces)
    with decoder.lock:
        prefixes.add(pieces, rows)
    return len(keys)


def require_prefixes(decoder: Decoder) -> PrefixCache:
    """Returns a decoder's prefix cache.

    Raises:
        UserError: it has none.
    """
    if decoder.prefixes is None:
        raise UserError("this session keeps no prefixes: open it with prefix_cache_bytes")
    return decoder.prefixes


def _header(decoder: Decoder, tokens: int) -> PrefixHeader:
    nothing = decoder.runner.read_cache(0, 0)
    shape = [*nothing.shape[:2], tokens, nothing.shape[3]]
    return PrefixHeader(decoder.bundle.manifest.seal, str(nothing.dtype), shape, [])


def _tokens(prompt: Prompt, count: int) -> list[int | str]:
    """Returns a prompt's first tokens: ids, and the sha256 of an image where an image is.

    Args:
        prompt: the prompt.
        count: tokens, each image counted as its N.
    """
    images, found, at = iter(prompt.images), list[int | str](), 0
    for token in prompt.input_ids:
        if at == count:
            break
        image = next(images) if token == IMAGE_TOKEN_INDEX else None
        found.append(int(token) if image is None else image.digest)
        at += 1 if image is None else len(image)
    return found
