"""Writes the folder of a phone kit: a bundle's graphs, what is measured on them, and the scripts that do it."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

from mobilevlm.commands import command
from mobilevlm.engines.atomic_dir import check_output, staged
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.chunks import PROMPT_ROWS
from mobilevlm.engines.qnn.socs import find_soc
from mobilevlm.engines.targets import TARGETS

from ..backends.backend import backend_of

FOLDER, SCRIPTS = Path(__file__).resolve().parent, ("run.sh", "README.txt")
PROGRAM, LIBRARY = "onnxruntime_perf_test", "libonnxruntime.so"
NPU_LIBRARIES = ("libonnxruntime_providers_qnn.so", "libQnnHtp.so", "libQnnSystem.so")


def write_kit(bundle: Bundle, out: Path) -> None:
    """Writes the folder, which appears when all of it is there.

    Args:
        bundle: the bundle to measure.
        out: the folder, which must not be there yet.

    Raises:
        BundleError: the bundle is none that a phone runs; or the folder cannot be made.
    """
    target = TARGETS.get(bundle.manifest.target)
    copy_graphs = backend_of(target).phone_graphs(bundle, target) if target else None
    if copy_graphs is None:
        raise BundleError(
            f"{bundle.directory} is for {bundle.manifest.target}, and a phone runs snapdragon and snapdragon-cpu: "
            + command("export/build_engines.py", "--model", "DIR", "--target", "snapdragon-cpu")
        )
    check_output(out, overwrite=False)
    with staged(out, overwrite=False) as directory:
        (directory / "graphs").mkdir()
        measures = copy_graphs(directory / "graphs")
        for script in SCRIPTS:
            shutil.copyfile(FOLDER / script, directory / script)
        rows = [f"{one.name}\t{one.provider}\t{one.graph}\n" for one in measures]
        (directory / "measures.txt").write_text("".join(rows), encoding="utf-8")
        (directory / "kit.conf").write_text(_settings(bundle), encoding="utf-8")


def _settings(bundle: Bundle) -> str:
    """Settings of run.sh, as bash reads them."""
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
