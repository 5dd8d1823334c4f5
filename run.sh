#!/usr/bin/env bash
# What people do with this project, one verb each:
#   bash run.sh demo          set up, build the host bundle of the shipped demo model, answer about a picture
#   bash run.sh test          set up, lint, run the tests
#   bash run.sh test --fast   the same without the files of tests that take long: two minutes
#   bash run.sh test --coverage   the whole, and which lines it ran
#   bash run.sh test --slow   the same with the tests that take minutes (a 1.7B build)
#   bash run.sh test --emulated   a device's install on emulated CPUs, Arm and older x86: half an hour, on Debian
#   bash run.sh test --clients   other projects' clients, of the server and of exports: installs them (1.2 GB), Node is needed for some
#   bash run.sh test --oldest | --newest   the fast tests with the oldest or newest version of every dependency
#   bash run.sh faults [--minutes N]   kills, hostile files, long sessions (docs/reliability.md); half an hour without N
#   bash run.sh types         mypy, on all folders
#   bash run.sh ARCH TASK LANGUAGE_MODEL VISION_MODEL [OUTPUT_DIR] [--option value ...]
#                             train by the published recipes, on the data in data/; the options go to train/finetune.py
#       ARCH: mobilevlm1.7b, mobilevlm3b, mobilevlm_v2_1.7b or mobilevlm_v2_3b
#       TASK: pretrain-finetune-test, pretrain, finetune, finetune.lora or test (all benchmarks)
#   bash run.sh ARCH test CHECKPOINT_DIR   all benchmarks, on a checkpoint from anywhere
set -euo pipefail
called_from=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"
. train/verbs.sh

usage() { sed -n '2,17s/^# \{0,1\}//p' run.sh; }

find_python() {
    local python
    for python in python3.11 python3 python3.12 python3.13; do
        if "$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    echo "run.sh: Python 3.11 or newer is needed (with its venv module)" >&2
    exit 2
}

# Installs once, and again when the files that say what to install have changed.
set_up() {
    local wanted
    wanted=$(cat pyproject.toml constraints.txt | cksum)
    [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ] && return
    echo "setting up .venv (PyTorch for the CPU, transformers, ONNX Runtime): a few minutes, once" >&2
    [ -x .venv/bin/python ] || "$(find_python)" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
    echo "$wanted" >.venv/installed
}

demo() {
    local engine=artifacts/demo-host picture=assets/shapes.png question
    .venv/bin/python export/build_engines.py --model assets/demo --target host --out "$engine" --overwrite
    echo "picture:  $picture"
    for question in "What color is the circle?" "How many shapes are there?" "Is the star to the left of the square?"; do
        echo "question: $question"
        echo -n "answer:   "
        .venv/bin/python runtime/chat.py --engine "$engine" --image "$picture" --prompt "$question"
    done
}

# The folders as mypy wants them: below the package that they are subpackages of.
check_types() {
    local tree=artifacts/typed part
    rm -rf "$tree" && mkdir -p "$tree/mobilevlm"
    for part in "$PWD"/mobilevlm/* "$PWD"/{engines,export,runtime,train,eval,jetson}; do
        ln -s "$part" "$tree/mobilevlm/"
    done
    MYPYPATH=$tree .venv/bin/mypy --config-file pyproject.toml
}

run_tests() {
    # A file of tests to a process, the longest first; a 1.7B build and an emulated CPU need all of the machine.
    local marks="not slow and not emulated" processes=(-n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder)
    case "${1:-}" in
        --fast) marks="not long and not slow and not emulated"; shift ;;
        --coverage) processes+=(--cov --cov-report term:skip-covered); shift ;;
        --slow) marks="not emulated"; processes=(); shift ;;
        --emulated) marks=emulated; processes=(); shift ;;
        --clients) shift; run_clients "$@"; return ;;
        --oldest) shift; run_end oldest lowest-direct "$@"; return ;;
        --newest) shift; run_end newest highest "$@"; return ;;
    esac
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    check_types
    .venv/bin/python -m pytest -m "$marks" "${processes[@]}" "$@"
}

# In an environment of their own, behind which lies ours: they bring much that the project does not want.
run_clients() {
    local folder=artifacts/clients python=artifacts/clients/.venv/bin/python ours theirs
    mkdir -p "$folder"
    [ -x "$python" ] || "$(find_python)" -m venv "$folder/.venv"
    ours=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    theirs=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "$ours" >"$theirs/ours.pth"
    "$python" -m pip install --quiet --disable-pip-version-check 'langchain-openai>=0.3' 'litellm>=1.60' 'llm-comply>=0.5' 'schemathesis>=4'
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps 'live-vlm-webui>=0.4' 'ai-api-scanner>=0.5'
    if command -v npm >/dev/null; then
        npm install --silent --no-audit --no-fund --prefix "$folder" ai @ai-sdk/openai-compatible @continuedev/openai-adapters
        # Its own scripts would fetch CUDA.
        npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$folder" @huggingface/transformers@4.3.2
    fi
    # Optimum's ONNX part wants transformers 4.
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target "$folder/optimum" \
        'optimum==2.1.0' 'optimum-onnx==0.1.0' 'transformers==4.57.6' 'tokenizers<0.23' 'huggingface-hub<1'
    "$python" -m pytest tests/runtime/server/test_clients.py tests/export/hf_layout/test_clients.py \
        tests/runtime/page/test_transformers_js.py "$@"
}

# Both ends of the ranges in pyproject.toml; PyTorch alone stays, whose others bring gigabytes of CUDA.
run_end() {
    local folder=artifacts/$1 python=artifacts/$1/.venv/bin/python resolution=$2
    shift 2
    mkdir -p "$folder"
    [ -x "$python" ] || "$(find_python)" -m venv "$folder/.venv"
    grep '^torch==' constraints.txt >"$folder/torch.txt"
    "$python" -m pip install --quiet --disable-pip-version-check uv --requirement "$folder/torch.txt"
    "$python" -m uv pip install --quiet --python "$python" --resolution "$resolution" --override "$folder/torch.txt" --editable '.[dev]'
    "$python" -m pytest -m "not long and not slow and not emulated" -n auto --maxprocesses 4 --dist loadfile "$@"
}

case "${1:-}" in
    types) set_up; check_types ;;
    faults) shift; set_up; .venv/bin/python -m tests.faults.run "$@" ;;
    # Not `set_up && demo`: inside a condition bash would carry on after a failed install.
    demo) set_up; demo ;;
    test) shift; set_up; run_tests "$@" ;;
    mobilevlm1.7b | mobilevlm3b | mobilevlm_v2_1.7b | mobilevlm_v2_3b) train "$@" ;;
    *) usage; exit 2 ;;
esac
