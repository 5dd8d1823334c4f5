"""The engines of a bundle, loaded on the GPU at hand."""

from __future__ import annotations

from dataclasses import dataclass

from mobilevlm.engines import stages
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.tensorrt.cuda_device import compute_capability
from mobilevlm.engines.tensorrt.library import RTX, import_tensorrt, library_of
from mobilevlm.engines.tensorrt.profiles import decoder_parts
from mobilevlm.engines.tensorrt.record import compile_command, require_usable

from .calls import Calls
from .engine import Engine, Loader
from .kernels import kernels_file
from .steps import DecoderEngines


@dataclass(frozen=True)
class Engines:
    """Engines of all stages.

    Attributes:
        decoder: one for each piece of the decoder.
        vision: None for a text-only bundle.
    """

    decoder: DecoderEngines
    vision: Engine | None

    @property
    def all(self) -> list[Engine]:
        """Engines of the decoder, then that of the vision stage."""
        return [*self.decoder.engines.values(), *([self.vision] if self.vision else [])]

    @property
    def scratch_bytes(self) -> int:
        """Memory that the context of any of them needs while it runs; one runs at a time."""
        return max(engine.scratch_bytes for engine in self.all)

    def keep_kernels(self) -> None:
        """Keeps what TensorRT-RTX has compiled."""
        for engine in self.all:
            engine.keep_kernels()


def load_engines(bundle: Bundle) -> Engines:
    """Loads a bundle's engines.

    Raises:
        BundleError: they are missing, or were made elsewhere.
        UserError: TensorRT, CUDA or a GPU is missing, or memory is short.
    """
    library, capability = library_of(bundle.manifest.target), compute_capability_here(bundle)
    loader = Loader(library, compile_command(bundle.directory))

    def load(part: str) -> Engine:
        kernels = kernels_file(bundle, part, loader.trt.__version__, capability) if library is RTX else None
        return loader.load(bundle.file(stages.engine_file(part)), kernels)

    config, pieces = bundle.config, decoder_parts(bundle.manifest.parts)
    engines = {part: load(part) for part in pieces}
    decoder = DecoderEngines(engines, Calls(config, pieces, engines), config.hidden_size, config.vocab_size)
    return Engines(decoder, load(stages.VISION) if bundle.has_vision else None)


def compute_capability_here(bundle: Bundle) -> str:
    """Returns the compute capability of the GPU at hand, on which a bundle's engines run.

    Raises:
        BundleError: they are missing, or were made elsewhere.
        UserError: TensorRT, CUDA or a GPU is missing.
    """
    version, capability = import_tensorrt(library_of(bundle.manifest.target)).__version__, compute_capability()
    require_usable(bundle, version, capability)
    return capability
