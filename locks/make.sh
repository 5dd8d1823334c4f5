#!/usr/bin/env bash
# Makes the files of this folder anew: exact versions with hashes, their bill of materials and their licences.
#   bash locks/make.sh
# device.txt        what a device installs (Python 3.11 and newer, all systems)
# device-3.10.txt   the same for Python 3.10, whose newest ONNX Runtime is 1.23 (JetPack 6)
# serve.txt         a device with the server
# setup.txt         the developers' set-up on Linux; PyTorch is installed first: its builds differ from machine to machine
# sbom.json         CycloneDX, of serve.txt
# licences.md       of serve.txt
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools=artifacts/tools
[ -x "$tools/bin/python" ] || python3 -m venv "$tools"
"$tools/bin/python" -m pip install --quiet --disable-pip-version-check uv cyclonedx-bom pip-licenses

lock() {
    "$tools/bin/uv" pip compile --quiet --upgrade --generate-hashes --no-header --no-annotate --custom-compile-command '' "$@"
}

lock pyproject.toml --universal --python-version 3.11 --constraints constraints.txt --output-file locks/device.txt
lock pyproject.toml --python-version 3.10 --python-platform linux --output-file locks/device-3.10.txt
lock pyproject.toml --universal --python-version 3.11 --constraints constraints.txt --extra serve --output-file locks/serve.txt
lock pyproject.toml --python-version 3.11 --python-platform x86_64-manylinux_2_35 --constraints constraints.txt --extra dev \
    ${PIP_FIND_LINKS:+--find-links "$PIP_FIND_LINKS"} --no-emit-package torch --output-file locks/setup.txt

installed=artifacts/tools/serve
rm -rf "$installed"
"$tools/bin/uv" venv --quiet --python "$tools/bin/python" "$installed"
"$tools/bin/uv" pip install --quiet --python "$installed/bin/python" --require-hashes --requirement locks/serve.txt
"$tools/bin/cyclonedx-py" environment --output-reproducible --output-file locks/sbom.json "$installed/bin/python"
{
    echo "# Licences of what a device with the server installs"
    echo
    echo "Made by \`bash locks/make.sh\` from locks/serve.txt."
    echo
    "$tools/bin/pip-licenses" --python "$installed/bin/python" --format markdown --from mixed --with-system --no-version \
        --ignore-packages pip setuptools wheel
} >locks/licences.md
