"""Gives a bundle's TensorRT graphs to NVIDIA's own parser and builder, on any machine: no GPU is needed.

    pip install 'mobilevlm[rtx]'
    python engines/judge.py DIR
    python engines/judge.py DIR --capability all SM75 SM120

Prints a table: whether TensorRT-RTX builds an engine, its kernels for a prompt and a token, how many of them are
attention as a whole, how many copy a layer's cache, the types that weights are read in, the bytes that kernels read and
write, the memory of the weights beside their size on disk, and the size of the engine.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Iterator, Sequence

from mobilevlm.commands import run_command
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.stages import CACHE_PARTS, VISION, onnx_file, past, weights_file
from mobilevlm.engines.targets import TARGETS, TENSORRT
from mobilevlm.engines.tensorrt.listing import Count, count
from mobilevlm.engines.tensorrt.profiles import bundle_profiles
from mobilevlm.engines.tensorrt.record import parts
from mobilevlm.engines.tensorrt.rtx import ALL, CAPABILITY, Judgement, judge
from mobilevlm.errors import UserError

HEADER = (
    "| graph | GPU | TensorRT-RTX | kernels: prompt, token | attention | cache copies | products by weights' type "
    "| moved, MB | weights, MB | on disk, MB | engine, MB | s |"
)
COUNTED = ("kernels", "attention", "cache_copies")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    self = argparse.ArgumentParser(
        prog="judge.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("engine", metavar="DIR", help="the bundle, made by export/build_engines.py for a TensorRT target")
    self.add_argument(
        "--capability",
        nargs="+",
        default=[CAPABILITY],
        metavar="SM",
        help=f"of GPUs, such as SM89: engines of their own for each; {ALL} for one that runs on all from SM80 on "
        f"(default: {CAPABILITY})",
    )
    return self


def judgements(bundle: Bundle, capability: str = CAPABILITY) -> Iterator[tuple[str, Judgement]]:
    """What the builder makes of each of a bundle's graphs.

    Raises:
        BundleError: the bundle has none.
        UserError: TensorRT-RTX is not installed, or does not know the capability.
    """
    target = TARGETS.get(bundle.manifest.target)
    if target is None or target.backend != TENSORRT:
        raise BundleError(f"{bundle.directory} is for target {bundle.manifest.target}, which has no TensorRT graphs")
    for part in parts(bundle):
        yield part, judge(bundle.path(onnx_file(part)), bundle_profiles(bundle, part), capability)


def counts(bundle: Bundle, part: str, judged: Judgement) -> list[Count]:
    """What a prompt and a token behind the longest past amount to; of vision, a picture."""
    if part == VISION:
        return [count(judged.kernels, 0, sys.maxsize)]
    shapes = bundle_profiles(bundle, part)
    name = past(bundle.manifest.parts[part][0], CACHE_PARTS[0])
    longest = len(shapes) // 2 - 1
    _, rows, heads, dim = shapes[longest][name][0]
    return [count(judged.kernels, profile, rows * heads * dim) for profile in (longest, len(shapes) - 1)]


def _row(bundle: Bundle, part: str, capability: str, judged: Judgement) -> str:
    if judged.problems:
        return f"| {part} | {capability} | {judged.version}: refused {'| ' * 8}| {judged.seconds:.0f} |"
    found = counts(bundle, part, judged)
    columns = [", ".join(str(getattr(one, name)) for one in found) for name in COUNTED]
    columns.append(", ".join(f"{number} {kind}" for kind, number in found[-1].products.items()))
    columns.append(", ".join(f"{one.moved / 1e6:.1f}" for one in found))
    disk = bundle.path(weights_file(part)).stat().st_size
    sizes = f"{judged.weight_bytes / 1e6:.2f} | {disk / 1e6:.2f} | {judged.engine_bytes / 1e6:.2f}"
    start = f"| {part} | {capability} | {judged.version}: built"
    return f"{start} | {' | '.join(columns)} | {sizes} | {judged.seconds:.0f} |"


def _judge(options: argparse.Namespace) -> None:
    bundle = Bundle.open(options.engine, compiling=True)
    print(HEADER)
    print("|---" * (HEADER.count("|") - 1) + "|")
    problems = []
    for capability in options.capability:
        for part, judged in judgements(bundle, capability):
            print(_row(bundle, part, capability, judged), flush=True)
            problems += [f"{part} for {capability}: {problem}" for problem in judged.problems]
    if problems:
        raise UserError("NVIDIA's builder refuses " + "\n".join(problems))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    run_command(parser(), _judge, arguments)


if __name__ == "__main__":
    main()
