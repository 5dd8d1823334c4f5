"""Opening a bundle's stages as a decoder."""

from __future__ import annotations

from mobilevlm.commands import localized
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.embed_tokens import EmbedTokens, TableError
from mobilevlm.engines.stages import EMBED_TOKENS_FILE

from .decoder import Decoder
from .prefix_cache import PrefixCache
from .runner import open_runner
from .scrubber import Scrubber


def open_table(bundle: Bundle) -> EmbedTokens:
    """Opens a bundle's embedding table.

    Raises:
        BundleError: it is damaged, or its shape is not that of the bundle's model.
    """
    try:
        table, config = EmbedTokens(bundle.file(EMBED_TOKENS_FILE)), bundle.config
    except (TableError, OSError) as error:
        raise bundle.damaged(f"{EMBED_TOKENS_FILE} cannot be used: {error}") from None
    if table.shape != (config.vocab_size, config.hidden_size):
        raise BundleError(
            f"{bundle.path(EMBED_TOKENS_FILE)} has shape {table.shape}, its model needs "
            f"{(config.vocab_size, config.hidden_size)}. Build the bundle again: {localized(bundle.manifest.command)}"
        )
    return table


def open_decoder(bundle: Bundle, on_cpu: bool = False, prefix_cache_bytes: int = 0, scrub: bool = False) -> Decoder:
    """Opens a bundle's stages.

    Args:
        bundle: what to run.
        on_cpu: whether graphs for an NPU or TensorRT run on the CPU; those for a CPU do anyhow.
        prefix_cache_bytes: most memory of the prefix cache; 0 for none.
        scrub: whether to look for rot in its files while it is open.

    Raises:
        BundleError: it is damaged, or not for this machine.
    """
    table = open_table(bundle)  # before the engines, which take longer to open
    prefixes = PrefixCache(prefix_cache_bytes) if prefix_cache_bytes else None
    runner = open_runner(bundle, on_cpu=on_cpu)
    return Decoder(bundle, table, runner, prefixes, Scrubber(bundle) if scrub else None)
