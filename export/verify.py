"""Every stage against PyTorch, before a bundle exists: the chain of truth's link from checkpoint to engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tqdm import tqdm

from mobilevlm.checkpoint import Checkpoint
from mobilevlm.config import ModelConfig
from mobilevlm.engines import stages
from mobilevlm.engines.targets import QUANTIZED, has_int8_cache
from mobilevlm.errors import UserError

from .precisions import precision
from .reference import Reference, make_sample, prompt_rows

DECODE_STEPS = 4


class VerificationError(UserError):
    """A stage differs from PyTorch by more than its precision allows; names stage, tensor, max and mean difference."""


@dataclass(frozen=True)
class Difference:
    """How one tensor of one stage compares with PyTorch; the tolerance is a fraction of `max_abs_reference`."""

    stage: str
    tensor: str
    max_abs_diff: float
    mean_abs_diff: float
    max_abs_reference: float
    tolerance: float

    @property
    def allowed(self) -> float:
        """Largest acceptable `max_abs_diff`."""
        return self.tolerance * self.max_abs_reference

    @property
    def acceptable(self) -> bool:
        """False also for NaN, which compares false with everything."""
        return self.max_abs_diff <= self.allowed

    def __str__(self) -> str:
        return (
            f"stage {self.stage}, tensor {self.tensor}: max difference {self.max_abs_diff:.3g}, mean "
            f"{self.mean_abs_diff:.3g}, allowed {self.allowed:.3g}"
        )


@dataclass(frozen=True)
class Verification:
    """What a bundle records of its check: how each tensor compares, and the sample's inputs and PyTorch's outputs."""

    differences: list[Difference]
    golden: dict[str, np.ndarray]


def rows_needed(checkpoint: Checkpoint) -> int:
    """Rows of the kv cache that verification fills."""
    return prompt_rows(checkpoint) + DECODE_STEPS


def verify(checkpoint: Checkpoint, directory: Path, precisions: Mapping[str, str], max_context: int) -> Verification:
    """Compare the stages in `directory` with PyTorch.

    Args:
        checkpoint: the truth.
        directory: holds the ONNX stages and the embedding table.
        precisions: stage to precision name, for the tolerances.
        max_context: rows of the kv cache, at least `rows_needed`.

    Raises:
        VerificationError: a difference is beyond its tolerance.
        UserError: PyTorch itself computes something that is not finite.
    """
    config = checkpoint.config

    def graphs(stage: str) -> Iterator[tuple[ort.InferenceSession, range]]:
        for part, layers in stages.parts(stage, config.num_hidden_layers).items():
            prepacked = precisions[stage] in QUANTIZED
            yield _session(directory / stages.onnx_file(part), prepacked), layers

    with tqdm(desc="verifying against PyTorch", unit="layer", disable=None) as progress:
        sample = make_sample(checkpoint)
        reference = Reference(checkpoint, sample, progress.update)
        progress.total = len(reference.layers()) + DECODE_STEPS + 1
        outputs = {}
        if sample.pixel_values is not None:
            vision, _ = next(graphs(stages.VISION))
            outputs[stages.VISION] = {stages.IMAGE_EMBEDS: _run_vision(vision, sample.pixel_values.numpy())}
        embeds = reference.inputs_embeds.numpy()
        if stages.PREFILL in precisions:
            outputs[stages.PREFILL] = {stages.LOGITS: _run_prefill(graphs(stages.PREFILL), embeds, config)}
        table = np.load(directory / stages.EMBED_TOKENS_FILE, mmap_mode="r")
        decoder, _ = next(graphs(stages.DECODER))
        steps = _run_decoder(decoder, table, config, embeds, max_context, progress.update)
        outputs[stages.DECODER] = steps.outputs
        if precisions[stages.DECODER] in QUANTIZED:  # values are balanced with the layer that reads them, or codes
            last = config.num_hidden_layers - 1
            steps.outputs.pop(stages.present(last, "value"))
            if has_int8_cache(precisions):
                steps.outputs.pop(stages.present(last, "key"))
        reference.follow(steps.tokens)
    differences = [
        _difference(stage, name, got, _beginning(reference.golden[name], got), precision(precisions[stage]).TOLERANCE)
        for stage, tensors in outputs.items()
        for name, got in tensors.items()
    ]
    _require(differences)
    return Verification(differences, reference.golden)


def _session(path: Path, quantized: bool) -> ort.InferenceSession:
    """A session that leaves weights as they are on disk, mapped: a model larger than memory can be checked too."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not quantized:  # those are mapped in the form that the kernels read
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_mem_pattern = False  # it would ask for all weights' size at once, mapped or not
    # Constant folding would turn float16 weights into float32 ones in memory.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run_vision(session: ort.InferenceSession, pixel_values: np.ndarray) -> np.ndarray:
    return session.run([stages.IMAGE_EMBEDS], {stages.PIXEL_VALUES: pixel_values})[0]


@dataclass(frozen=True)
class _Steps:
    """What the exported decoder did: its greedy tokens, and its outputs by the names the reference has them under."""

    tokens: list[int]
    outputs: dict[str, np.ndarray]


def _run_prefill(
    graphs: Iterable[tuple[ort.InferenceSession, range]], embeds: np.ndarray, config: ModelConfig
) -> np.ndarray:
    """Run (1, S, D) rows through graphs that hand them on; (1, V) logits of the last."""
    name, rows = stages.INPUTS_EMBEDS, embeds
    nothing = np.zeros((1, config.num_key_value_heads, 0, config.head_dim), np.int8)
    for session, layers in graphs:
        feed = {stages.past(layer, part): nothing for layer in layers for part in stages.CACHE_PARTS}
        ends = config.num_hidden_layers - 1 in layers
        wanted = [stages.LOGITS if ends else stages.NEXT_HIDDEN_STATES]
        (rows,) = session.run(wanted, feed | {name: rows, stages.PAST_LENGTH: np.zeros(1, np.int64)})
        name = stages.HIDDEN_STATES
    return rows


def _run_decoder(
    session: ort.InferenceSession,
    table: np.ndarray,
    config: ModelConfig,
    embeds: np.ndarray,
    max_context: int,
    on_step: Callable[[], object],
) -> _Steps:
    """Prefill, then greedy decode steps, on a kv cache that is bound in place exactly as a runtime does it."""
    shape = (1, config.num_key_value_heads, max_context, config.head_dim)
    dtype = {one.name: np.int8 if "int8" in one.type else np.float32 for one in session.get_inputs()}
    parts = [(layer, part) for layer in range(config.num_hidden_layers) for part in stages.CACHE_PARTS]
    buffers = {key: np.zeros(shape, dtype[stages.past(*key)]) for key in parts}
    tokens, logits, past = [], [], 0
    for _ in range(DECODE_STEPS + 1):
        past += embeds.shape[1]
        binding = session.io_binding()
        binding.bind_cpu_input(stages.INPUTS_EMBEDS, embeds)
        binding.bind_cpu_input(stages.SEQLENS_K, np.array([past - 1], np.int32))
        binding.bind_cpu_input(stages.TOTAL_SEQUENCE_LENGTH, np.array(past, np.int32))
        binding.bind_output(stages.LOGITS)
        for key, buffer in buffers.items():
            value = ort.OrtValue.ortvalue_from_numpy(buffer)
            binding.bind_ortvalue_input(stages.past(*key), value)
            binding.bind_ortvalue_output(stages.present(*key), value)
        session.run_with_iobinding(binding)
        logits.append(binding.get_outputs()[0].numpy())
        tokens.append(int(logits[-1].argmax()))
        on_step()
        embeds = table[tokens[-1]][None, None].astype(np.float32)
    last = config.num_hidden_layers - 1
    rows = {stages.present(last, part): buffers[last, part][:, :, :past] for part in stages.CACHE_PARTS}
    return _Steps(tokens, {stages.LOGITS: np.concatenate(logits)} | rows)


def _beginning(reference: np.ndarray, got: np.ndarray) -> np.ndarray:
    """As much of the reference as was computed: a prefill has no later steps."""
    return reference[tuple(slice(size) for size in got.shape)]


def _difference(stage: str, tensor: str, got: np.ndarray, reference: np.ndarray, tolerance: float) -> Difference:
    diff = np.abs(got.astype(np.float64) - reference)
    return Difference(
        stage, tensor, float(diff.max()), float(diff.mean()), float(np.abs(reference).max()), float(tolerance)
    )


def _require(differences: list[Difference]) -> None:
    bad = [item for item in differences if not item.acceptable]
    if bad:
        detail = "; ".join(map(str, bad))
        raise VerificationError(f"the exported model differs from PyTorch: {detail}. Try a higher --precision")
