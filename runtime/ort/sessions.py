"""Opens a bundle's graphs as sessions of ONNX Runtime or OpenVINO on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import TypeAlias

import onnxruntime as ort

from mobilevlm.commands import localized
from mobilevlm.engines import stages
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.machine import available_bytes
from mobilevlm.engines.ort.int4_weights import Int4Matrix, read_places
from mobilevlm.engines.ort.openvino import OpenVinoGraph, SharedModels, open_stage
from mobilevlm.engines.stage_form import OPENVINO
from mobilevlm.pages import Pages, is_in_memory, read_in_large_pages, trim_heap
from mobilevlm.refusals import refusal_of

from .failures import is_ort_failure
from .graph_files import require_graph
from .xnnpack import Placement, placement_here

OpenedGraph: TypeAlias = ort.InferenceSession | OpenVinoGraph
Places = Mapping[str, list[Int4Matrix]]
ROOM = 2  # times their size is needed to compute weights and to pack them
EXTEND_AS_REQUESTED = 1  # not by powers of two


def weights_path(bundle: Bundle, part: str) -> Path:
    """Returns the file that a graph's weights are mapped from.

    Args:
        bundle: where it is.
        part: name of the graph.
    """
    return bundle.file(stages.weights_file(part)).resolve()


def open_graphs(
    bundle: Bundle, parts: Mapping[str, Mapping[str, range]], places: Places, profile_to: Path | None
) -> dict[str, Future[tuple[OpenedGraph, Pages]]]:
    """Opens a bundle's graphs, two at a time: each is opened on one core. Slow ones are still being opened afterwards.

    Args:
        bundle: where they are.
        parts: stage to its graphs, as `stages.parts` has them.
        places: where weights lie that are computed, see `computed_places`.
        profile_to: directory for ONNX Runtime's profiles, None for none.

    Returns:
        By name of the graph, a session and its weights' pages. Asking for one that cannot be loaded raises
        `BundleError`.
    """
    _share_memory()
    slow = {stage for stage in parts if opens_slowly(bundle, stage)}
    first, later = (
        {part: stage for stage, names in parts.items() for part in names if (stage in slow) == late}
        for late in (False, True)
    )
    pool, shared = ThreadPoolExecutor(2), (places, SharedModels(), profile_to)
    opened: dict[str, Future[tuple[OpenedGraph, Pages]]] = {}
    for group in (first, later):  # not all at once: the first would take as long as all
        wait(opened.values())
        opened |= {part: pool.submit(_session, bundle, stage, part, *shared) for part, stage in group.items()}
    pool.shutdown(wait=profile_to is not None)  # profiles are complete when all that was opened is closed
    return opened


def has_room(places: Places) -> bool:
    """Whether a prefill's int8 weights, which are computed and then packed for the kernels, fit into memory."""
    needed = ROOM * sum(one.outputs * one.inputs for found in places.values() for one in found)
    available = available_bytes()
    return available is None or available >= needed


def computed_places(bundle: Bundle) -> Places:
    """Reads which of a prefill's weights are computed from the decoder's, by graph; none where a bundle stores them.

    Raises:
        BundleError: the file that says where they lie is damaged.
    """
    if stages.INT4_PLACES_FILE not in bundle.manifest.files:
        return {}
    try:
        return read_places(bundle.file(stages.INT4_PLACES_FILE))
    except (OSError, ValueError) as error:
        raise _not_computed(bundle, error) from None


def _not_computed(bundle: Bundle, error: Exception) -> BundleError:
    return BundleError(
        f"the prefill of {bundle.directory} cannot be computed from its decoder ({error}). Build the bundle again: "
        f"{localized(bundle.manifest.command)}"
    )


def _computed(bundle: Bundle, part: str, places: Places) -> dict[str, ort.OrtValue]:
    """Computes weights of a prefill's graph from the decoder's, by initializer.

    Raises:
        BundleError: they are not where they are said to lie.
    """
    decoder, own = weights_path(bundle, stages.DECODER), weights_path(bundle, part)
    try:
        return {one.name: ort.OrtValue.ortvalue_from_numpy(one.as_int8(decoder, own)) for one in places[part]}
    except (OSError, ValueError, KeyError, MemoryError) as error:
        raise _not_computed(bundle, error) from None


def opens_slowly(bundle: Bundle, stage: str) -> bool:
    """Whether a stage is opened behind the others: OpenVINO compiles, and a prefill's graphs are many.

    Args:
        bundle: that has it.
        stage: its name.
    """
    return stage == stages.PREFILL or bundle.manifest.forms[stage].runtime == OPENVINO


@cache
def _share_memory() -> None:
    """Registers one arena for all graphs of this process, which would each keep their largest tensors' memory."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"arena_extend_strategy": EXTEND_AS_REQUESTED}))


def _session(
    bundle: Bundle, stage: str, part: str, places: Places, compiled: SharedModels, profile_to: Path | None
) -> tuple[OpenedGraph, Pages]:
    weights = weights_path(bundle, part)
    is_computed = [one.name for one in places.get(part, [])] if stage == stages.PREFILL else []
    require_graph(bundle, stage, part, is_computed)
    if not is_in_memory(weights):  # before it is mapped: opening reads most of it
        read_in_large_pages(weights)
    form = bundle.manifest.forms[stage]
    if form.runtime == OPENVINO:
        profile = profile_to / f"{part}.json" if profile_to is not None else None
        graph = open_stage(bundle.file(stages.onnx_file(part)), stage, compiled, profile)
        pages = Pages(weights)
        pages.release()  # most of the vision stage's weights have been copied
        return graph, pages
    placed = placement_here(form.xnnpack)
    options = _options(form.quantized, placed)
    if profile_to is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile_to / part)
    path = bundle.file(stages.onnx_file(part))
    computed = _computed(bundle, part, places) if places and stage == stages.PREFILL else {}
    if computed:
        options.add_external_initializers(list(computed), list(computed.values()))
    try:
        session = ort.InferenceSession(str(path), options, providers=list(placed.providers))
        pages = Pages(weights)
        pages.release()  # loading reads more of it than running does
        if computed:
            del options, computed
            trim_heap()  # or it keeps half a gigabyte of what was computed
        return session, pages
    except Exception as error:
        if not is_ort_failure(error):
            raise
        raise _not_loaded(bundle, path, error) from None


def _options(quantized: bool, placed: Placement) -> ort.SessionOptions:
    """Returns the options of a stage's session.

    Args:
        quantized: whether the stage is, see `StageForm`.
        placed: where the stage runs.
    """
    options = ort.SessionOptions()
    options.add_session_config_entry("session.use_env_allocators", "1")
    # A graph's threads would spin on after its run, in the way of the next graph's.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3  # errors only: stderr belongs to the commands
    options.intra_op_num_threads = placed.threads
    for key, value in placed.entries.items():
        options.add_session_config_entry(key, value)
    if quantized:
        # As written, like the build ran it: fusing would round other sums.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if not quantized and not placed.uses_xnnpack:  # whose kernels read nothing but what they packed
        # Mapped weights are used where they lie: a bundle opens at once, and what is not in use can be paged out. What
        # is quantised is packed for the kernels in memory.
        options.add_session_config_entry("session.disable_prepacking", "1")
    # A memory pattern asks for all weights' size at once, mapped or not, which fails beyond the machine's memory.
    options.enable_mem_pattern = False
    return options


def _not_loaded(bundle: Bundle, path: Path, error: Exception) -> BundleError:
    if refused := refusal_of(error):  # memory, for one: another version would not help
        return BundleError(f"{path} cannot be loaded: {refused}")
    built_with = bundle.manifest.versions.get("onnxruntime")
    return BundleError(
        f"ONNX Runtime {ort.__version__} cannot load {path}: {str(error).strip()[:600]}. "
        f"The bundle was built with {built_with}: pip install onnxruntime=={built_with}, or build it again here: "
        f"{localized(bundle.manifest.command)}. "
        "On Python 3.10, whose newest ONNX Runtime is 1.23, bundles of --precision fp16 and fp32 run"
    )
