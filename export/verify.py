"""Every stage against PyTorch, before a bundle exists: the chain of truth's link from checkpoint to engine.

The reference is `mobilevlm.model` in float32, its weights streamed through it layer by layer, so that a model of any
size is checked on the machine that builds it. One pass over prompt and answer gives the reference of prefill and of
every decode step, because attention is causal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from accelerate.hooks import attach_align_device_hook
from tqdm import tqdm

from mobilevlm.checkpoint import Checkpoint
from mobilevlm.engines import stages
from mobilevlm.errors import UserError
from mobilevlm.model import MobileVLM, empty_model
from mobilevlm.projectors import num_image_tokens
from mobilevlm.prompt import IMAGE, IMAGE_TOKEN_INDEX
from mobilevlm.splice import splice

from .precisions import precision

DECODE_STEPS = 4
QUESTION = "What is in the picture?"


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
class Sample:
    """What the stages are run on: one synthetic picture and one short question."""

    pixel_values: torch.Tensor | None
    input_ids: list[int]


class _Float32(Mapping[str, torch.Tensor]):
    """A checkpoint's tensors in float32, for a float32 reference."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], tied: bool):
        self.tensors, self.tied = tensors, tied

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors["model.embed_tokens.weight" if self.tied and name == "lm_head.weight" else name].float()

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


@dataclass(frozen=True)
class Verification:
    """What a bundle records of its check: how each tensor compares, and the sample's inputs and PyTorch's outputs."""

    differences: list[Difference]
    golden: dict[str, np.ndarray]


def verify(checkpoint: Checkpoint, directory: Path, precisions: Mapping[str, str], max_context: int) -> Verification:
    """Compare the stages in `directory` with PyTorch.

    Args:
        checkpoint: the truth.
        directory: holds the ONNX stages and the embedding table.
        precisions: stage to precision name, for the tolerances.
        max_context: rows of the kv cache, at least `rows_needed`.

    Raises:
        VerificationError: a difference is beyond its tolerance.
    """
    sample = make_sample(checkpoint)
    reference = streamed_reference(checkpoint)
    differences, golden = [], {"input_ids": np.array(sample.input_ids)}
    blocks = [*reference.model.layers, *_clip_layers(reference)]
    progress = tqdm(total=len(blocks) + DECODE_STEPS + 1, desc="verifying against PyTorch", unit="step", disable=None)
    with progress, torch.inference_mode():
        for block in blocks:
            block.register_forward_hook(lambda *_: progress.update() and None)
        embeds = _reference_embeds(reference, sample, golden)
        if sample.pixel_values is not None:
            differences += [_vision_difference(directory, sample, golden, precisions[stages.VISION])]
        steps = _run_decoder(directory, checkpoint, embeds.numpy(), max_context, progress.update)
        golden |= _reference_logits(reference, embeds, steps.tokens)
    tolerance = precision(precisions[stages.DECODER]).TOLERANCE
    differences += [
        _difference(stages.DECODER, name, got, golden[name], tolerance) for name, got in steps.outputs.items()
    ]
    _require(differences)
    return Verification(differences, golden)


def streamed_reference(checkpoint: Checkpoint) -> MobileVLM:
    """The PyTorch model in float32 whose weights are in memory only while the layer they belong to runs."""
    reference = empty_model(checkpoint.config)
    weights = _Float32(checkpoint.tensors, checkpoint.config.tie_word_embeddings)
    attach_align_device_hook(reference, execution_device=torch.device("cpu"), offload=True, weights_map=weights)
    return reference


def _clip_layers(reference: MobileVLM) -> list[torch.nn.Module]:
    tower = getattr(reference.model, "vision_tower", None)
    return [] if tower is None else list(tower.vision_tower["vision_model"].encoder.layers)


def rows_needed(checkpoint: Checkpoint) -> int:
    """Rows of the kv cache that verification fills."""
    ids = make_sample(checkpoint).input_ids
    per_image = num_image_tokens(checkpoint.config) if checkpoint.config.vision else 0
    return len(ids) + ids.count(IMAGE_TOKEN_INDEX) * (per_image - 1) + DECODE_STEPS


def make_sample(checkpoint: Checkpoint) -> Sample:
    """A smooth picture with noise (fixed seed) and a question about it."""
    vision = checkpoint.config.vision
    tokenizer = checkpoint.tokenizer()
    if vision is None:
        return Sample(None, tokenizer.encode([QUESTION]))
    generator = np.random.default_rng(0)
    axis = np.linspace(-1.5, 1.5, vision.image_size, dtype=np.float32)
    picture = np.stack([np.add.outer(axis, phase * axis) for phase in (-1.0, 0.5, 1.0)])
    picture += 0.5 * generator.standard_normal(picture.shape, dtype=np.float32)
    return Sample(torch.from_numpy(picture[None]), tokenizer.encode([IMAGE, "\n" + QUESTION]))


def _reference_embeds(reference, sample: Sample, golden: dict) -> torch.Tensor:
    ids = torch.tensor([sample.input_ids])
    if sample.pixel_values is None:
        return reference.model.embed_tokens(ids)
    embeds = reference.encode_images(sample.pixel_values)
    golden["pixel_values"] = sample.pixel_values.numpy()
    golden["image_embeds"] = embeds[0][None].numpy()
    return splice(ids, embeds, reference.model.embed_tokens).inputs_embeds


def _session(path: Path) -> ort.InferenceSession:
    """A session that leaves weights as they are on disk, mapped: a model larger than memory can be checked too."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_mem_pattern = False  # it would ask for all weights' size at once, mapped or not
    # Constant folding would turn float16 weights into float32 ones in memory.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _vision_difference(directory: Path, sample: Sample, golden: dict, precision_name: str) -> Difference:
    session = _session(directory / stages.ONNX_FILES[stages.VISION])
    got = session.run([stages.IMAGE_EMBEDS], {stages.PIXEL_VALUES: sample.pixel_values.numpy()})[0]
    tolerance = precision(precision_name).TOLERANCE
    return _difference(stages.VISION, stages.IMAGE_EMBEDS, got, golden["image_embeds"], tolerance)


@dataclass(frozen=True)
class _Steps:
    """What the exported decoder did: its greedy tokens, and its outputs by the names the reference has them under."""

    tokens: list[int]
    outputs: dict[str, np.ndarray]


def _run_decoder(
    directory: Path, checkpoint: Checkpoint, embeds: np.ndarray, max_context: int, on_step: Callable[[], object]
) -> _Steps:
    """Prefill, then greedy decode steps on the kv cache, exactly as a runtime does it: cache bound in place."""
    config = checkpoint.config
    session = _session(directory / stages.ONNX_FILES[stages.DECODER])
    table = np.load(directory / stages.EMBED_TOKENS_FILE, mmap_mode="r")
    shape = (1, config.num_key_value_heads, max_context, config.head_dim)
    parts = [(layer, part) for layer in range(config.num_hidden_layers) for part in ("key", "value")]
    caches = {key: np.zeros(shape, np.float32) for key in parts}
    tokens, logits, past = [], [], 0
    for _ in range(DECODE_STEPS + 1):
        binding = session.io_binding()
        binding.bind_cpu_input(stages.INPUTS_EMBEDS, embeds)
        past += embeds.shape[1]
        binding.bind_cpu_input(stages.SEQLENS_K, np.array([past - 1], np.int32))
        binding.bind_cpu_input(stages.TOTAL_SEQUENCE_LENGTH, np.array(past, np.int32))
        binding.bind_output(stages.LOGITS)
        for (layer, part), cache in caches.items():
            value = ort.OrtValue.ortvalue_from_numpy(cache)
            binding.bind_ortvalue_input(stages.past(layer, part), value)
            binding.bind_ortvalue_output(stages.present(layer, part), value)
        session.run_with_iobinding(binding)
        logits.append(binding.get_outputs()[0].numpy())
        tokens.append(int(logits[-1].argmax()))
        on_step()
        embeds = table[tokens[-1]][None, None].astype(np.float32)
    last = config.num_hidden_layers - 1
    outputs = {stages.LOGITS: np.concatenate(logits)}
    outputs |= {stages.present(last, part): caches[last, part][:, :, :past] for part in ("key", "value")}
    return _Steps(tokens, outputs)


def _reference_logits(reference, embeds: torch.Tensor, tokens: list[int]) -> dict[str, np.ndarray]:
    """PyTorch on the prompt and what the export answered to it: logits of the same steps, the last layer's cache."""
    answer = reference.model.embed_tokens(torch.tensor([tokens[:-1]]))
    output = reference(inputs_embeds=torch.cat([embeds, answer], dim=1), use_cache=True, logits_to_keep=len(tokens))
    cache = output.past_key_values.layers[-1]
    last = reference.config.num_hidden_layers - 1
    return {
        "tokens": output.logits[0].argmax(-1).numpy(),
        stages.LOGITS: output.logits[0].numpy(),
        stages.present(last, "key"): cache.keys.numpy(),
        stages.present(last, "value"): cache.values.numpy(),
    }


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
