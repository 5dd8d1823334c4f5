"""Downloads from the Hugging Face hub, for files that are not on this machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .tensors import CheckpointError

# Owners whose ids the originals accept as a vision tower.
HUB_TOWER_OWNERS = ("openai/", "laion/", "google/", "bczhou/")
MODEL_FILES: tuple[str, ...] = (
    *("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json"),
    # What some families besides have: an image processor, and folders of their own.
    *("preprocessor_config.json", "processor_config.json", "*/config.json", "*/preprocessor_config.json"),
    *("*/tokenizer*", "*/special_tokens_map.json", "*/added_tokens.json"),
)
WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model.bin.index.json")


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form `owner/name` (and not that of a path)."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name) is not None


def download(hub_id: str, allow: Sequence[str] = (), put_at: Path | None = None) -> Path:
    """Fetch a repository's files (cached) and return their directory.

    Args:
        hub_id: `owner/name`.
        allow: file patterns; those of a model when empty.
        put_at: where a person without network may put the files instead.

    Raises:
        CheckpointError: the hub cannot be reached or does not know the id; says which files to put where.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    patterns = list(allow or MODEL_FILES + WEIGHT_FILES)
    try:
        return Path(snapshot_download(hub_id, allow_patterns=patterns))
    except (LocalEntryNotFoundError, RepositoryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{hub_id} is not on this machine and cannot be fetched ({type(error).__name__}: {reason}). Download "
            f"{', '.join(patterns)} of {hub_id} elsewhere and put them in {put_at or Path.cwd() / hub_id}"
        ) from None
