"""Gives a bundle's TensorRT graphs to NVIDIA's own parser and builder, on any machine: no GPU is needed.

    pip install 'mobilevlm[rtx]'
    python engines/judge.py DIR
    python engines/judge.py DIR --capability all SM75 SM120
    python engines/judge.py DIR --json counted.json        and what each call amounts to, for jetson/limits.py

Prints a table: whether TensorRT-RTX builds an engine, its kernels for a prompt and a token, how many of them are
attention as a whole, how many copy a layer's cache, the types that weights are read in, the bytes that kernels read and
write, the memory of the weights beside their size on disk, the size of the engine, and the most memory that building it
took. Each engine has a process of its own: what a builder refuses stays in its mind.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from math import prod
from multiprocessing import get_context

from mobilevlm.commands import command, run_command
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.stages import ATTENTION_MASK, CACHE_PARTS, VISION, onnx_file, past, weights_file
from mobilevlm.engines.tables import markdown_lines, markdown_row
from mobilevlm.engines.tensorrt.counted import Call, Counted
from mobilevlm.engines.tensorrt.listing import Count, count
from mobilevlm.engines.tensorrt.profiles import Profile, bundle_profiles
from mobilevlm.engines.tensorrt.record import parts
from mobilevlm.engines.tensorrt.require import tensorrt_target
from mobilevlm.engines.tensorrt.rtx import ALL, CAPABILITY, Judgement, judge
from mobilevlm.errors import UserError, user_path

TITLES = (
    *("graph", "GPU", "TensorRT-RTX", "kernels: prompt, token", "attention", "cache copies"),
    *("products by weights' type", "moved, MB", "weights, MB", "on disk, MB", "engine, MB", "peak, MB", "s"),
)
HEADER = tuple(markdown_lines(TITLES, []))
COUNTED = ("kernels", "attention", "cache_copies")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    self = argparse.ArgumentParser(
        prog="judge.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument(
        "engine", metavar="DIR", help=f"the bundle, made by {command('export/build_engines.py')} for a TensorRT target"
    )
    self.add_argument(
        "--capability",
        nargs="+",
        default=[CAPABILITY],
        metavar="SM",
        help=f"of GPUs, such as SM89: engines of their own for each; {ALL} for one that runs on all from SM80 on "
        f"(default: {CAPABILITY})",
    )
    self.add_argument(
        "--json",
        metavar="FILE",
        help="write kernels and bytes of every optimization profile there, for one --capability",
    )
    return self


def require_graphs(bundle: Bundle) -> None:
    """Look whether a bundle has graphs for TensorRT.

    Raises:
        BundleError: it has none.
    """
    tensorrt_target(bundle, ", which has no TensorRT graphs")


def judgements(bundle: Bundle, capability: str = CAPABILITY) -> Iterator[tuple[str, Judgement]]:
    """Asks the builder about each of a bundle's graphs.

    Args:
        bundle: for TensorRT.
        capability: of the GPU to build for, such as SM86.

    Returns:
        Graph and what became of it, one by one.

    Raises:
        BundleError: the bundle has none.
        UserError: TensorRT-RTX is not installed, or does not know the capability.
    """
    require_graphs(bundle)
    for part in parts(bundle):
        yield part, _judged(bundle.path(onnx_file(part)), bundle_profiles(bundle, part), capability)


def _judged(path: Path, profiles: list[Profile], capability: str) -> Judgement:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            return pool.submit(judge, path, profiles, capability).result()
        except BrokenProcessPool:
            raise UserError(
                f"building {path} was killed, most likely for want of memory: close other programs, or build the "
                f"bundle with more pieces ({command('export/build_engines.py', '--blocks', 'N')})"
            ) from None


def all_counts(bundle: Bundle, part: str, judged: Judgement) -> list[Count]:
    """Counts what each optimization profile amounts to: one of vision, a decoder's as in `profiles.decoder_profiles`.

    Args:
        bundle: that holds the graph.
        part: the graph.
        judged: what the builder made of it.
    """
    if part == VISION:
        return [count(judged.kernels, 0, sys.maxsize)]
    name = past(bundle.manifest.parts[part][0], CACHE_PARTS[0])
    elements = [prod(shapes[name][0]) for shapes in bundle_profiles(bundle, part)]
    return [count(judged.kernels, profile, size) for profile, size in enumerate(elements)]


def counts(bundle: Bundle, part: str, judged: Judgement) -> list[Count]:
    """Counts what a prompt, and a token behind the longest past, amount to; of vision, an image.

    Args:
        bundle: that holds the graph.
        part: the graph.
        judged: what the builder made of it.
    """
    found = all_counts(bundle, part, judged)
    return found if part == VISION else [found[len(found) // 2 - 1], found[-1]]


def calls(bundle: Bundle, part: str, judged: Judgement) -> list[Call]:
    """Returns kernels and bytes of every optimization profile, to compute with.

    Args:
        bundle: that holds the graph.
        part: the graph.
        judged: what the builder made of it.
    """
    found = all_counts(bundle, part, judged)
    sizes = [(0, 0)]
    if part != VISION:
        masks = [shapes[ATTENTION_MASK][0] for shapes in bundle_profiles(bundle, part)]
        sizes = [(rows, columns - rows) for *_, rows, columns in masks]
    return [Call(part, *size, one.kernels, one.moved) for size, one in zip(sizes, found, strict=True)]


def row(bundle: Bundle, part: str, capability: str, judged: Judgement) -> str:
    """Returns a line of the table under `HEADER`.

    Args:
        bundle: that holds the graph.
        part: the graph.
        capability: of the GPU it was built for.
        judged: what the builder made of it.
    """
    if judged.problems:
        nothing = [""] * (len(TITLES) - 4)
        return markdown_row([part, capability, f"{judged.version}: refused", *nothing, f"{judged.seconds:.0f}"])
    found = counts(bundle, part, judged)
    columns = [", ".join(str(getattr(one, name)) for one in found) for name in COUNTED]
    columns.append(", ".join(f"{number} {kind}" for kind, number in found[-1].products.items()))
    columns.append(", ".join(f"{one.moved / 1e6:.1f}" for one in found))
    disk = bundle.path(weights_file(part)).stat().st_size
    columns += [f"{size / 1e6:.2f}" for size in (judged.weight_bytes, disk, judged.engine_bytes)]
    columns.append(f"{judged.peak_bytes / 1e6:.0f}")
    return markdown_row([part, capability, f"{judged.version}: built", *columns, f"{judged.seconds:.0f}"])


def table(
    bundle: Bundle,
    capabilities: Sequence[str] = (CAPABILITY,),
    note: Callable[[str, Judgement], object] = lambda *_: None,
) -> Iterator[str]:
    """Yields the table, line by line as the builder goes on.

    Args:
        bundle: whose graphs it is given.
        capabilities: of GPUs.
        note: gets every part and what became of it.

    Raises:
        UserError: the builder refuses a graph, after all lines; see `judgements`.
    """
    require_graphs(bundle)
    yield from HEADER
    problems: list[str] = []
    for capability in capabilities:
        for part, judged in judgements(bundle, capability):
            yield row(bundle, part, capability, judged)
            note(part, judged)
            problems += [f"{part} for {capability}: {problem}" for problem in judged.problems]
    if problems:
        raise UserError("NVIDIA's builder refuses " + "\n".join(problems))


def _judge(options: argparse.Namespace) -> None:
    bundle = Bundle.open(options.engine, compiling=True)
    if options.json and len(options.capability) > 1:
        raise UserError(f"--json is for one --capability, and these are {' '.join(options.capability)}")
    found: dict[str, Judgement] = {}
    for line in table(bundle, options.capability, found.__setitem__):
        print(line, flush=True)
    if options.json:
        counted = tuple(call for part, judged in found.items() for call in calls(bundle, part, judged))
        version = next(iter(found.values())).version
        manifest = bundle.manifest
        about = (manifest.name, manifest.model, manifest.target, manifest.precision, version)
        Counted(*about, options.capability[0], counted).write(user_path(options.json))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    run_command(parser(), _judge, arguments)


if __name__ == "__main__":
    main()
