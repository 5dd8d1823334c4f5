"""A Snapdragon's NPU through ONNX Runtime QNN, for bundles of the `qnn` lowering; its simulator on x86-64 Linux."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from mobilevlm.commands import localized
from mobilevlm.engines import stages
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.chunks import PROMPT_ROWS, ChunkedDecoder, Run
from mobilevlm.engines.graph_shapes import Tensors, chunk_tensors, vision_tensors
from mobilevlm.engines.qnn import provider as qnn
from mobilevlm.engines.qnn.socs import find_soc

from ..embeddings import EmbeddingBlock
from ..ort.failures import failures_named, is_ort_failure
from ..ort.graph_files import require_fitting
from ..runner import Runner

CALLS = (PROMPT_ROWS, 1)  # rows of a call


def open_runner(bundle: Bundle, profile_to: Path | None, on_cpu: bool) -> Runner:
    """Opens a bundle for an NPU; see `runner.open_runner`.

    Args:
        bundle: what to run.
        profile_to: None, as there is no profile.
        on_cpu: whether to run its graphs on the CPU instead.

    Raises:
        BundleError: a profile is asked for, or see `QnnRunner`.
    """
    if profile_to is not None:
        raise BundleError(f"{bundle.directory} is for an NPU, of which there is no profile by operator")
    return QnnRunner(bundle, on_cpu)


class QnnRunner:
    """Stages on a Snapdragon's NPU; see `runner.Runner`.

    Args:
        bundle: what to run.
        on_cpu: whether to run its graphs on the CPU instead, which is slow: to compare with.

    Attributes:
        max_context: tokens that the kv cache holds.
        prompts_by: the decoder, which runs prompts itself.
        same_arithmetic: the NPU's arithmetic is 16-bit integers, the build's run is in float32.

    Raises:
        BundleError: it is compiled for another system than this, or with a newer SDK; or files are missing that a CPU
            or the simulator needs.
    """

    prompts_by = stages.DECODER
    same_arithmetic = False

    def __init__(self, bundle: Bundle, on_cpu: bool = False):
        self._bundle, self._on_cpu = bundle, on_cpu
        compiled = bundle.manifest.compiled
        self._soc = find_soc(compiled["soc"]) if compiled else None
        self.max_context = bundle.manifest.max_context
        if bundle.has_vision:
            self._vision = self._open(stages.VISION, vision_tensors(bundle.config, bundle.manifest.num_image_tokens))
        parts = {part: range(*ends) for part, ends in bundle.manifest.parts.items()}
        graphs = {rows: [self._open_part(part, layers, rows) for part, layers in parts.items()] for rows in CALLS}
        self._decoder = ChunkedDecoder(bundle.config, self.max_context, graphs, list(parts.values()))

    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray:
        """Runs the vision stage: (1, 3, H, H) float32 to (N, D) float32."""
        return self._vision({stages.PIXEL_VALUES: pixel_values})[stages.IMAGE_EMBEDS][0]

    def remedy(self) -> str:
        """Returns what to do about a bundle that computes something else here: a binary of this SDK's."""
        return f"Build it again, so that its binaries are this SDK's: {localized(self._bundle.manifest.command)}"

    def close(self) -> None:
        """Nothing to do: graphs go with the last reference to them."""

    def decode(self, inputs_embeds: EmbeddingBlock, past: int) -> np.ndarray:
        """Runs tokens that follow the first `past` of the kv cache; see `runner.Runner`.

        Args:
            inputs_embeds: (S, D) float32.
            past: tokens of the kv cache that stay.
        """
        return self._decoder.decode(np.asarray(inputs_embeds), past)

    def prefill(self, inputs_embeds: EmbeddingBlock, past: int) -> np.ndarray:
        """Runs `decode`: there is no separate prefill.

        Args:
            inputs_embeds: (S, D) float32.
            past: tokens of the kv cache that stay.
        """
        return self.decode(inputs_embeds, past)

    def read_cache(self, start: int, stop: int) -> np.ndarray:
        """Copies rows out of the kv cache; see `runner.Runner`.

        Args:
            start: index of the first token.
            stop: index behind the last one.
        """
        return self._decoder.read_cache(start, stop)

    def write_cache(self, start: int, rows: np.ndarray) -> None:
        """Copies rows into the kv cache; see `runner.Runner`.

        Args:
            start: index of their first token.
            rows: what `read_cache` returned.
        """
        self._decoder.write_cache(start, rows)

    def _open_part(self, part: str, layers: range, rows: int) -> Run:
        tensors = chunk_tensors(self._bundle.config, layers, rows, self.max_context)
        return self._open(stages.chunk_graph(part, rows), tensors)

    def _open(self, name: str, tensors: tuple[Tensors, Tensors]) -> Run:
        path, options = self._form(name)
        require_fitting(self._bundle, path.name, tensors)
        try:
            session = _cpu_session(str(path)) if self._on_cpu else qnn.open_graph(path, {}, options)
        except Exception as error:
            if not is_ort_failure(error):
                raise
            raise BundleError(self._refusal(name, str(error).splitlines()[0])) from None
        names = [output.name for output in session.get_outputs()]

        def run(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            with failures_named(self._bundle, name):
                return dict(zip(names, session.run(names, feed), strict=True))

        return run

    def _form(self, name: str) -> tuple[Path, dict[str, str]]:
        """Returns the file to open, and the provider's options for it."""
        graph, npu = (self._bundle.path(file) for file in (stages.onnx_file(name), stages.npu_file(name)))
        shared = name != stages.VISION and self._soc is not None and self._soc.shares_weights
        if self._soc is not None and not self._on_cpu and not (shared and qnn.is_simulated()):
            return npu, qnn.RUNNING
        if not graph.is_file():
            raise BundleError(
                f"{graph} is missing: the NPU it was compiled for does without, a CPU or the NPU's simulator does "
                f"not. Copy all of the bundle, or build it again: {localized(self._bundle.manifest.command)}"
            )
        # The simulator compiles it once more, for the same system.
        return graph, qnn.RUNNING | (qnn.compile_options(self._soc) if self._soc else {})

    def _refusal(self, name: str, detail: str) -> str:
        manifest, here = self._bundle.manifest, qnn.versions()
        built = manifest.compiled or {key: manifest.versions.get(key, "?") for key in here}
        reason = f"the NPU does not take {name} of {self._bundle.directory}: {detail}. "
        if _number(built["qairt"]) > _number(here["qairt"]):
            return reason + (
                f"It was compiled with QAIRT {built['qairt']}, here is {here['qairt']}, which has to be as new: "
                f"pip install '{qnn.PACKAGE}>={built[qnn.PACKAGE]}'"
            )
        if manifest.compiled:
            return reason + (
                f"It is compiled for {manifest.compiled['soc']} (HTP v{manifest.compiled['htp']}): if this is another "
                f"system, build it for that one with its --soc: {localized(manifest.command)}"
            )
        return reason + f"Build it again with --soc, which says what is wrong: {localized(manifest.command)}"


def _cpu_session(path: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
