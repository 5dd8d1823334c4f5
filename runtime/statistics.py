"""Times and counts of one answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Statistics:
    """Figures of one answer.

    Attributes:
        image_encode_ms: vision stage, all images; 0 when none had to be encoded.
        prefill_ms: the decoder on the prompt.
        ttft_ms: from the question to the first token: reading images, encoding, prefill, sampling.
        prompt_tokens: tokens of the prompt, those of images included.
        reused_tokens: tokens of the prompt that were in the kv cache or in a kept prefix already.
        new_tokens: tokens generated.
        decode_tokens_per_s: rate after the first token; 0 when there was only one.
        peak_rss_mib: largest resident memory of this process so far.
    """

    image_encode_ms: float
    prefill_ms: float
    ttft_ms: float
    prompt_tokens: int
    reused_tokens: int
    new_tokens: int
    decode_tokens_per_s: float
    peak_rss_mib: float

    def __str__(self) -> str:
        reused = f", {self.reused_tokens} of them reused" if self.reused_tokens else ""
        return (
            f"image encode {self.image_encode_ms:.0f} ms · prefill {self.prefill_ms:.0f} ms ({self.prompt_tokens} "
            f"tokens{reused}) · TTFT {self.ttft_ms:.0f} ms · {self.new_tokens} tokens at "
            f"{self.decode_tokens_per_s:.1f} tokens/s · peak RSS {self.peak_rss_mib:.0f} MiB"
        )
