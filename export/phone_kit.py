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
import shlex

from mobilevlm.commands import run_command
from mobilevlm.engines.bundle import Bundle
from mobilevlm.errors import user_path
from mobilevlm.export.phone.kit import write_kit


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


def write(arguments: argparse.Namespace) -> None:
    """Writes the folder, and says what comes next.

    Raises:
        BundleError: the bundle is none that a phone runs, or damaged; or the folder cannot be made.
    """
    out = user_path(arguments.out)
    write_kit(Bundle.open(arguments.engine), out)
    print(f"Next: bash {shlex.quote(str(out / 'run.sh'))} BINARIES (see its README.txt)", file=sys.stderr)
    print(out)


def main() -> None:
    """Entry point: exit status 0, 2 for a mistake of the person's, 1 for one of ours."""
    run_command(parser(), write)


if __name__ == "__main__":
    main()
