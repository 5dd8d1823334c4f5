"""Published figures of other models and other software on the same boards, to compare with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """One published figure.

    Attributes:
        board: key of `modules.MODULES`.
        stage: stage of the benchmark that it compares with, `decode` for all contexts.
        value: in `unit`.
        unit: `ms` or `tokens/s`.
        what: model and software.
        source: publication.
    """

    board: str
    stage: str
    value: float
    unit: str
    what: str
    source: str

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit} ({self.what})"


PAPER = "arXiv 2312.16886, table 6"
LLAMA_CPP = "https://github.com/ggml-org/llama.cpp/pull/5132"
EDGE_LLM = "https://nvidia.github.io/TensorRT-Edge-LLM/0.9.1/user_guide/performance/performance-benchmarks.html"
ONNXSIM = "https://github.com/onnxsim/onnxsim (docs/jetson-orin-nano-sdk-manager-flash.md)"
CHOI = "https://hokwangchoi.com/blog/vlm-benchmarks/"
COSMOS = "Cosmos-Reason2-2B, TensorRT-Edge-LLM, int4"
QWEN_VL = "Qwen3-VL-2B, TensorRT-Edge-LLM 0.9, int4"

REFERENCES = (
    Reference("agx-orin-64", "image encode", 297, "ms", "MobileVLM-1.7B, llama.cpp, f16", LLAMA_CPP),
    Reference("agx-orin-64", "prefill", 307, "ms", "MobileVLM-1.7B, llama.cpp, 246 tokens, 4 bit", LLAMA_CPP),
    # The paper's board had 32 GB: the first developer kit, whose GPU is the 64 GB module's.
    Reference("agx-orin-64", "decode", 65.3, "tokens/s", "MobileVLM-1.7B, llama.cpp, 4 bit", PAPER),
    Reference("agx-orin-64", "decode", 38.3, "tokens/s", "MobileVLM-3B, llama.cpp, 4 bit", PAPER),
    Reference("agx-orin-64", "image encode", 39.0, "ms", f"{QWEN_VL}, fp16 ViT, 265 image tokens", EDGE_LLM),
    Reference("agx-orin-64", "prefill", 50.0, "ms", f"{QWEN_VL}, 292 tokens", EDGE_LLM),
    Reference("agx-orin-64", "decode", 98.4, "tokens/s", QWEN_VL, EDGE_LLM),
    Reference("orin-nx-16", "image encode", 82.1, "ms", f"{QWEN_VL}, fp16 ViT, 265 image tokens", EDGE_LLM),
    Reference("orin-nx-16", "prefill", 103.1, "ms", f"{QWEN_VL}, 292 tokens", EDGE_LLM),
    Reference("orin-nx-16", "decode", 60.1, "tokens/s", QWEN_VL, EDGE_LLM),
    Reference("orin-nano-8", "image encode", 151.1, "ms", f"{QWEN_VL}, fp16 ViT, 265 image tokens", EDGE_LLM),
    Reference("orin-nano-8", "prefill", 190.9, "ms", f"{QWEN_VL}, 292 tokens", EDGE_LLM),
    Reference("orin-nano-8", "decode", 36.9, "tokens/s", QWEN_VL, EDGE_LLM),
    # On a Super, JetPack 6.2.2; peak memory 4.3 GB, 0.23 J a token.
    Reference("orin-nano-8", "image encode", 208, "ms", f"{COSMOS}, 494 image tokens", CHOI),
    Reference("orin-nano-8", "prefill", 211, "ms", f"{COSMOS}, 512 tokens", CHOI),
    Reference("orin-nano-8", "TTFT", 420, "ms", COSMOS, CHOI),
    Reference("orin-nano-8", "decode", 60, "tokens/s", COSMOS, CHOI),
    Reference("orin-nano-8", "decode", 56, "tokens/s", "Cosmos-Reason2-2B, vLLM, int4", CHOI),
    Reference("orin-nano-8", "decode", 38, "tokens/s", "Cosmos-Reason2-2B, llama.cpp, 4 bit", CHOI),
    Reference("orin-nano-8", "decode", 70.9, "tokens/s", "Qwen3-0.6B, TensorRT-Edge-LLM, fp16, 14.1 ms", ONNXSIM),
    Reference("orin-nano-8", "decode", 159, "tokens/s", "Qwen3-0.6B, TensorRT-Edge-LLM, int4, 6.29 ms", ONNXSIM),
    Reference("orin-nano-8", "decode", 29.2, "tokens/s", "Qwen3-4B, TensorRT-Edge-LLM, int4, 34.3 ms", ONNXSIM),
)


def references_for(board: str, stage: str) -> list[Reference]:
    """Returns the published figures that compare with a stage.

    Sources rarely say which clocks a board had: those of a Super are not kept apart.

    Args:
        board: key of `modules.MODULES`.
        stage: name of the stage; all that decode compare with `decode`.
    """
    plain, kind = board.removesuffix("-super"), "decode" if stage.startswith("decode") else stage
    return [one for one in REFERENCES if (one.board, one.stage) == (plain, kind)]
