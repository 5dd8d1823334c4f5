"""Sequences of calls of TensorRT's builder and parser: functions of a workshop that return what the calls came to."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .small import Workshop, doubling, same

Calls = Callable[[Workshop], Any]


def built(shop: Workshop) -> bool:
    return shop.builder.build_serialized_network(shop.network, shop.config) is not None


def with_profiles(*profiles: dict, model: bytes = doubling()) -> Calls:
    """Parse, add profiles, build: what each step returns."""

    def calls(shop: Workshop) -> Any:
        parsed = shop.parser.parse(model)
        indices = [shop.add_profile(**shapes) for shapes in profiles]
        return parsed, indices, shop.config.num_optimization_profiles, built(shop)

    return calls


def parsed(model: bytes) -> Calls:
    """Parse: whether, how many errors, and the node that the first names."""

    def calls(shop: Workshop) -> Any:
        taken = shop.parser.parse(model)
        errors = [shop.parser.get_error(index).node_name() for index in range(shop.parser.num_errors)]
        return taken, errors[:1]

    return calls


def from_file(content: bytes | None) -> Calls:
    """Parse a file of this content, or none."""

    def calls(shop: Workshop) -> Any:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "graph.onnx"
            if content is not None:
                path.write_bytes(content)
            taken = shop.parser.parse_from_file(str(path))
        return taken, shop.parser.num_errors, shop.network.num_inputs, built(shop)

    return calls


def profile_itself(shop: Workshop) -> Any:
    """Bad sizes are taken without a word, and refused when the profile is added."""
    found = []
    for shapes in (same(2, 4), ((2, 4), (1, 4), (3, 4)), ((1, 4), (3, 4), (2, 4)), ((1, 4), (2, 4), (3,))):
        profile = shop.builder.create_optimization_profile()
        found.append(bool(profile))
        found.append((profile.set_shape("x", *shapes), [tuple(shape) for shape in profile.get_shape("x")]))
        found += [bool(profile), shop.config.add_optimization_profile(profile)]
    return found


def raised(call: Callable[[], Any]) -> Any:
    """The kind of what a call raises, whatever it says."""
    try:
        return call()
    except Exception as error:
        return type(error).__name__


def refused_at_once(shop: Workshop) -> Any:
    profile = shop.builder.create_optimization_profile()
    return [
        raised(lambda: profile.set_shape("x", *same(-1, 4))),
        raised(lambda: profile.set_shape("x", *same(*[1] * 9))),
        raised(lambda: setattr(shop.config, "no_such_thing", 1)),
        raised(lambda: shop.config.no_such_thing),
        raised(lambda: shop.trt.BuilderFlag.FP16),
    ]


def forgotten_initialisers(shop: Workshop) -> Any:
    class Log(shop.trt.ILogger):
        def __init__(self) -> None: ...

    class Monitor(shop.trt.IProgressMonitor):
        def __init__(self) -> None: ...

    makers = (shop.trt.Builder, shop.trt.Runtime)
    found = [raised(lambda make=make, log=log: make(log())) for make in makers for log in (Log, lambda: None)]
    return [*found, raised(lambda: setattr(shop.config, "progress_monitor", Monitor()))]


def monitor(trt: Any, step_complete: Callable[[], bool]) -> Any:
    """Notes phases in `opened` and `closed`. It may not refer to the workshop, whose builder would never end."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.opened: list[tuple[str, str | None]] = []
            self.closed: list[str] = []

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.opened.append((phase_name, parent_phase))

        def phase_finish(self, phase_name: str) -> None:
            self.closed.append(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return step_complete()

    return Monitor()


def monitored(step_complete: Callable[[], bool]) -> Calls:
    """Build with a monitor: the outermost phase, and whether all that were opened are closed."""

    def calls(shop: Workshop) -> Any:
        shop.config.progress_monitor = told = monitor(shop.trt, step_complete)
        shop.parser.parse(doubling(2))
        done = built(shop)
        return done, told.opened[0], told.closed[-1], sorted(name for name, _ in told.opened) == sorted(told.closed)

    return calls


def interface(shop: Workshop) -> Any:
    before = shop.network.num_inputs, shop.network.get_input(0)
    shop.parser.parse(doubling())
    tensor = shop.network.get_input(0)
    return before, shop.network.num_inputs, tensor.name, tuple(tensor.shape), shop.network.get_input(1)


def memory_of_a_plan(shop: Workshop) -> Any:
    shop.parser.parse(doubling(2))
    plan = shop.builder.build_serialized_network(shop.network, shop.config)
    return plan.nbytes == len(bytes(plan)) == len(memoryview(plan)), raised(lambda: len(plan))


def pools(shop: Workshop) -> Any:
    config, pool = shop.config, shop.trt.MemoryPoolType
    for name in ("WORKSPACE", "TACTIC_DRAM"):
        for size in (1 << 20, 5 << 20):  # the second is no power of two
            config.set_memory_pool_limit(getattr(pool, name), size)
    return config.get_memory_pool_limit(pool.WORKSPACE), config.get_memory_pool_limit(pool.TACTIC_DRAM)


def flags(shop: Workshop) -> Any:
    config, kinds = shop.config, shop.trt.BuilderFlag
    found = [{name for name, flag in kinds.__members__.items() if config.get_flag(flag)}]
    config.clear_flag(kinds.TF32)
    config.set_flag(kinds.STRIP_PLAN)
    found.append({name for name, flag in kinds.__members__.items() if config.get_flag(flag)})
    return found, config.max_aux_streams, config.builder_optimization_level


def loaded(shop: Workshop) -> Any:
    return shop.trt.Runtime(shop.log).deserialize_cuda_engine(b"no engine")


def of_a_fresh_timing_cache(shop: Workshop) -> Any:
    cache = shop.config.create_timing_cache(b"")
    taken = shop.config.set_timing_cache(cache, False)
    again = shop.config.create_timing_cache(bytes(cache.serialize()))
    return taken, shop.config.set_timing_cache(again, False), shop.config.get_timing_cache() is not None


def untyped(shop: Workshop) -> Any:
    return Workshop(shop.trt, typed=False).plan(doubling(2)) is not None
