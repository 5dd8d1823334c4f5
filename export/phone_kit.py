"""Writes a folder that measures a bundle on an Android phone over adb, with ONNX Runtime's own benchmark program.

python export/phone_kit.py --engine artifacts/demo-snapdragon-cpu --out artifacts/demo-phone
python export/phone_kit.py --engine artifacts/demo-snapdragon-sm8650 --out artifacts/demo-phone-npu

Then `bash artifacts/demo-phone/run.sh BINARIES`; the folder's README.txt says what has to be in BINARIES.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import re
import shlex
import shutil

from mobilevlm.commands import run_command
from mobilevlm.engines import stages
from mobilevlm.engines.atomic_dir import check_output, staged
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.chunks import PROMPT_ROWS
from mobilevlm.engines.qnn.socs import find_soc
from mobilevlm.engines.targets import TARGETS
from mobilevlm.errors import user_path

SCRIPTS = Path(__file__).resolve().parent / "phone"
PROGRAM, LIBRARY = "onnxruntime_perf_test", "libonnxruntime.so"
NPU_LIBRARIES = ("libonnxruntime_providers_qnn.so", "libQnnHtp.so", "libQnnSystem.so")
IMAGE, PROMPT, TOKEN = "image_encode", "prompt", "token"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    self = argparse.ArgumentParser(
        prog="phone_kit.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument(
        "--engine", required=True, metavar="DIR", help="a bundle for snapdragon (compiled) or snapdragon-cpu"
    )
    self.add_argument("--out", required=True, metavar="DIR", help="the folder, which must not be there yet")
    return self


def write_kit(arguments: argparse.Namespace) -> None:
    """Write the folder, which appears when all of it is there.

    Raises:
        BundleError: the bundle is none that a phone runs, or damaged; or the folder cannot be made.
    """
    bundle, out = Bundle.open(arguments.engine), user_path(arguments.out)
    target = TARGETS.get(bundle.manifest.target)
    if target is None or not (target.backend == "qnn" or target.xnnpack):
        raise BundleError(
            f"{bundle.directory} is for {bundle.manifest.target}, and a phone runs snapdragon and snapdragon-cpu: "
            "python export/build_engines.py --model DIR --target snapdragon-cpu"
        )
    if target.backend == "qnn" and not bundle.manifest.compiled:
        raise BundleError(
            f"{bundle.directory} was built with --no-compile, and the kit is for compiled graphs: build it with --soc, "
            "python export/build_engines.py --model DIR --target snapdragon --soc 8gen3"
        )
    check_output(out, overwrite=False)
    with staged(out, overwrite=False) as directory:
        (directory / "graphs").mkdir()
        copy = _copy_npu if target.backend == "qnn" else _copy_cpu
        measures = copy(bundle, directory / "graphs")
        for script in SCRIPTS.iterdir():
            shutil.copyfile(script, directory / script.name)
        rows = ["\t".join(measure) + "\n" for measure in measures]
        (directory / "measures.txt").write_text("".join(rows), encoding="utf-8")
        (directory / "kit.conf").write_text(_settings(bundle), encoding="utf-8")
    print(f"Next: bash {shlex.quote(str(out / 'run.sh'))} BINARIES (see its README.txt)", file=sys.stderr)
    print(out)


def _settings(bundle: Bundle) -> str:
    """What run.sh has to know, as bash reads it."""
    name, compiled = re.sub(r"[^\w.-]", "_", bundle.manifest.name), bundle.manifest.compiled
    needed = [PROGRAM, LIBRARY]
    if compiled:
        needed += [*NPU_LIBRARIES, *(f"libQnnHtpV{compiled['htp']}{part}.so" for part in ("Stub", "Skel"))]
    values = {
        "NAME": name,
        "TARGET": bundle.manifest.target,
        "SOC": compiled.get("soc", ""),
        "SOC_TEXT": str(find_soc(compiled["soc"])) if compiled else "",
        "QAIRT": compiled.get("qairt", ""),
        "PROMPT_ROWS": str(PROMPT_ROWS),
    }
    lines = [f"{key}={shlex.quote(value)}\n" for key, value in values.items()]
    return "".join(lines) + f"NEEDED=({' '.join(needed)})\n"


def _copy_cpu(bundle: Bundle, directory: Path) -> list[tuple[str, str, str]]:
    """Graphs and weights; what is measured, on which provider, and the graph of it."""
    from mobilevlm.export.phone.graphs import fixed_decoder

    measures = []
    if bundle.has_vision:
        target, precision = TARGETS[bundle.manifest.target], bundle.manifest.precision[stages.VISION]
        provider = "xnnpack" if target.offers_to_xnnpack(stages.VISION, precision) else "cpu"
        measures.append((IMAGE, provider, stages.onnx_file(stages.VISION)))
        for name in (stages.onnx_file(stages.VISION), stages.weights_file(stages.VISION)):
            shutil.copyfile(bundle.path(name), directory / name)
    weights = stages.weights_file(stages.DECODER)
    shutil.copyfile(bundle.path(weights), directory / weights)
    # A prompt, and the token behind it.
    for measure, rows, past in ((PROMPT, PROMPT_ROWS, 0), (TOKEN, 1, PROMPT_ROWS)):
        name = stages.onnx_file(f"{stages.DECODER}.{measure}")
        model = fixed_decoder(bundle.path(stages.onnx_file(stages.DECODER)), rows, past)
        (directory / name).write_bytes(model.SerializeToString())
        measures.append((measure, "cpu", name))
    return measures


def _copy_npu(bundle: Bundle, directory: Path) -> list[tuple[str, str, str]]:
    """Context binaries and the graphs that name them; what is measured, on which provider, and the graph of it."""
    from mobilevlm.export.phone.graphs import context_file

    graphs = [(IMAGE, stages.VISION)] if bundle.has_vision else []
    for measure, rows in ((PROMPT, PROMPT_ROWS), (TOKEN, 1)):
        graphs += [(measure, stages.chunk_graph(part, rows)) for part in bundle.manifest.parts]
    names = {graph: stages.npu_file(graph) for _, graph in graphs}
    for name in {*names.values(), *(context_file(bundle.path(name)) for name in names.values())}:
        shutil.copyfile(bundle.path(name), directory / name)
    return [(measure, "qnn", names[graph]) for measure, graph in graphs]


def main() -> None:
    """Entry point: exit status 0, 2 for a mistake of the person's, 1 for one of ours."""
    run_command(parser(), write_kit)


if __name__ == "__main__":
    main()
