#!/usr/bin/env bash
# Sets a Jetson Orin up for engine bundles: TensorRT from apt, an environment that sees it, CUDA for Python, this project.
#   bash jetson/setup.sh              JetPack 6.1, 6.2 (L4T 36) or 7.2 (L4T 39); what is there already is left alone
#   bash jetson/setup.sh --dry-run    print the commands instead
#   bash jetson/setup.sh --venv DIR   where the environment goes (default: .venv beside this folder)
#   --root DIR                        with --dry-run: read the release and the packages of a copied tree
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$project/.venv
root=
dry_run=

fail() {
    echo "setup.sh: $1" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry_run=yes ;;
        --venv) venv=${2:?--venv needs a directory}; shift ;;
        --root) root=${2:?--root needs a directory}; shift ;;
        -h | --help) sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;;
        *) fail "unknown option $1; --help lists them" ;;
    esac
    shift
done
[ -z "$root" ] || [ -n "$dry_run" ] || fail "--root goes with --dry-run: this machine is what would be set up"

# Every command that changes something goes through here.
run() {
    printf '+ %s\n' "${*@Q}"
    [ -n "$dry_run" ] || "$@"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then run "$@"; else run sudo "$@"; fi
}

# A package's state, without dpkg, so that a copied tree can be asked too.
is_installed() {
    awk -v name="$1" 'BEGIN { RS = ""; FS = "\n" }
        $1 == "Package: " name && /\nStatus: [a-z]+ ok installed/ { found = 1 }
        END { exit !found }' "$root/var/lib/dpkg/status" 2>/dev/null
}

release=$root/etc/nv_tegra_release
[ -r "$release" ] || fail "no $release: this sets up a Jetson, and here is none"
line=$(sed -n 's/^# R\([0-9]*\) (release), REVISION: \([0-9.]*\).*/\1.\2/p' "$release")
case $line in
    # TensorRT 10.3 is as old as numpy 2; its own samples ask for numpy 1.
    36.[4-9]*) python=python3.10 cuda=12-6 packages=('cuda-bindings>=12.6,<13' 'numpy<2') ;;
    39.*) python=python3.12 cuda=13-2 packages=('cuda-bindings>=13,<14') ;;
    *) fail "L4T ${line:-unknown} is not one this project runs on: flash JetPack 6.2 (L4T 36.4 or later) or 7.2 (L4T 39)" ;;
esac
echo "L4T $line: $python, CUDA ${cuda/-/.}"

# TensorRT's Python module, which brings the library and the ONNX parser; the CUDA runtime it does not ask for.
missing=()
for package in python3-libnvinfer "cuda-cudart-$cuda" "$python-venv"; do
    is_installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    as_root apt-get update
    as_root apt-get install --yes --no-install-recommends "${missing[@]}"
else
    echo "apt packages: all there"
fi

# With the system's packages, because TensorRT's module comes from apt; their numpy is too old, pip puts another in front.
if grep -qs '^include-system-site-packages = true' "$venv/pyvenv.cfg"; then
    echo "environment $venv: there"
elif [ -e "$venv" ]; then
    fail "$venv is an environment that does not see the system's packages, TensorRT's among them: remove it, or use --venv"
else
    run "$python" -m venv --system-site-packages "$venv"
fi
run "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${packages[@]}" --editable "$project"

run "$venv/bin/python" -c 'import tensorrt; from cuda.bindings import runtime; print("TensorRT", tensorrt.__version__)'
# What the doctor finds is for people to decide; it does not make the set-up fail.
run "$venv/bin/python" "$project/jetson/doctor.py" || true
