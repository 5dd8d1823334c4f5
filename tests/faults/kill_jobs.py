"""Small jobs that are killed: what is there before, the command, and what has to be whole at every moment.

Each runs in a folder of its own, in which `out` is what it makes or changes. Where nothing else is said, `out` is at
every moment what it was, or what it becomes, or not there.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mobilevlm.engines.bundle import Bundle
from mobilevlm.train.run import RUN_FILE, newest_checkpoint
from tests.conftest import GOLDEN, ROOT, build_here
from tests.faults.signing import KEY_FILES

MODEL = GOLDEN / "v2_ldpnetv2_336" / "ckpt_safetensors"
OLD_MODEL = GOLDEN / "v1_ldpnet_112" / "ckpt_safetensors"
LORA, PICTURES = GOLDEN / "lora_v1", GOLDEN / "v1_ldpnet_112" / "train_batch"
IMAGE, QUESTION = ROOT / "assets" / "shapes.png", "What is it?"
FP32 = ("--target", "host", "--precision", "fp32")


@dataclass(frozen=True)
class Job:
    """A command that is killed.

    Attributes:
        name: for the table.
        main: `module:function` that reads `sys.argv`.
        words: of the command line.
        before: makes what is there before, in the folder that the command runs in.
        whole: raises where `out` is nothing that can be used or gone on with; None for what the module says.
        answers: whether the result is a bundle that is asked once.
    """

    name: str
    main: str
    words: tuple[object, ...] = ()
    before: Callable[[Path], object] = lambda work: None
    whole: Callable[[Path], object] | None = None
    answers: bool = False


def jobs() -> list[Job]:
    """All jobs; those that take longest come last."""
    build, build_main = ("--model", MODEL, "--out", "out"), "mobilevlm.export.build_engines:main"
    orin = ("--target", "orin", "--precision", "fp16", "--max-context", 512)
    hf = ("--target", "host", "--layout", "hf", "--precision", "fp32")
    signed = ("--sign", "ours.key")
    rows = ("--images", PICTURES, "--global-batch-size", 4, "--per-device-train-batch-size", 2, "--no-bf16")
    rows += ("--dataloader-num-workers", 0, "--save-steps", 1, "--parallel", "none", "--save-total-limit", 2)
    tower = ("--model", LORA / "base", "--vision-tower", LORA / "openai_clip_tiny", "--data", "rows.json")
    evaluated = ("--engine", "bundle", "--data", "data", "--tasks", "gqa", "--out", "out")
    fitted = ("--engine", "out", "--data", "data", "--limit", 3, "--trust", "ours.pub", *signed)
    here = __name__
    return [
        Job("build", build_main, (*build, *FP32), answers=True),
        Job("overwriting build", build_main, (*build, *FP32, "--overwrite", *signed), _old_bundle, answers=True),
        Job("orin build", build_main, (*build, *orin)),
        Job("layout hf", build_main, (*build, *hf)),
        Job("compile", f"{here}:compile_in_one_process", (), _prepared, _compiles),
        Job("evaluation", "mobilevlm.eval.run:main", evaluated, _questions, _answers_whole),
        Job("saved prefix", f"{here}:save_prefix", (), _old_prefix),
        Job("calibrated choices", "mobilevlm.eval.calibrate_choices:main", fitted, _signed_bundle, answers=True),
        Job("LoRA merge", "mobilevlm.train.merge_lora:main", (LORA / "base", LORA / "lora", "out")),
        Job("server", f"{here}:serve_and_ask", (), _bundle_out),
        *(
            Job(
                f"training: {recipe}",
                "mobilevlm.train.finetune:main",
                ("--recipe", recipe, *tower, *rows, "--out", "out"),
                _rows,
                _resumes,
            )
            for recipe in ("v2_stage2", "v1_stage1", "v1_lora_1.7b")
        ),
        Job("compile, workers", f"{here}:compile_with_workers", (), _prepared, _compiles),
    ]


def _keys(work: Path) -> None:
    for name, text in KEY_FILES.items():
        (work / name).write_text(text)


def _old_bundle(work: Path) -> None:
    _keys(work)
    build_here("--model", OLD_MODEL, "--sign", work / "ours.key", out=work / "out")


def _bundle_out(work: Path) -> None:
    build_here("--model", MODEL, out=work / "out")


def _signed_bundle(work: Path) -> None:
    _keys(work)
    _benchmark(work)
    build_here("--model", MODEL, "--sign", work / "ours.key", out=work / "out")


def _questions(work: Path) -> None:
    _benchmark(work)
    build_here("--model", MODEL, out=work / "bundle")


def _benchmark(work: Path) -> None:
    from mobilevlm.train.demo import make_benchmarks

    words, sys.argv = sys.argv, ["make_benchmarks.py", "--out", str(work / "data"), "--questions", "4"]
    try:
        make_benchmarks.main()
    except SystemExit as ended:
        assert not ended.code
    finally:
        sys.argv = words


def _prepared(work: Path) -> None:
    from tests.tensorrt_double import tiny

    tiny.write_bundle(work / "out", 1)


def _rows(work: Path) -> None:
    from tests.train.conftest import row

    (work / "rows.json").write_text(json.dumps([row(number, f"{number % 2}.png") for number in range(12)]))


def _old_prefix(work: Path) -> None:
    build_here("--model", MODEL, out=work / "bundle")
    (work / "out").write_bytes(b"an older file")


def _compiles(out: Path) -> None:
    """The prepared bundle and what is compiled so far."""
    Bundle.open(out, compiling=True)


def _answers_whole(out: Path) -> None:
    """No line but the last may be half."""
    for path in out.glob("*/answers.jsonl"):
        lines = path.read_bytes().split(b"\n")
        assert all(json.loads(line)["question_id"] for line in lines[:-1])


def _resumes(out: Path) -> None:
    """A run that can be told, and checkpoints of which the newest whole one is found."""
    if out.exists() and any(path.name != f"{RUN_FILE}.partial" for path in out.iterdir()):
        json.loads((out / RUN_FILE).read_text())
        newest_checkpoint(out)
    for path in out.glob("*.safetensors"):
        from mobilevlm.checkpoint.checkpoint import open_checkpoint

        open_checkpoint(out, None)
        assert path.is_file()
    for name in ("mm_projector.bin", "adapter_model.bin", "non_lora_trainables.bin"):
        if (out / name).exists():
            from mobilevlm.checkpoint.tensors import open_file

            open_file(out / name)


def compile_in_one_process() -> None:
    """`engines/compile.py out` on the double, whose workers' work is done in this process."""
    from tests.tensorrt_double.bundles import compile_here, machine

    with machine():
        compile_here(Path("out"))


def compile_with_workers() -> None:
    """`engines/compile.py out` on the double."""
    from mobilevlm.engines.compile import main
    from tests.tensorrt_double.bundles import machine

    with machine():
        main(["out"])


def save_prefix() -> None:
    """Saves a conversation about an image over an older file."""
    from mobilevlm.runtime.session import Session

    with Session("bundle", prefix_cache_bytes=2**24) as session:
        conversation = session.conversation()
        conversation.ask(QUESTION, 1)
        session.save_prefix("out", conversation, session.read_images(str(IMAGE)))


def serve_and_ask() -> None:
    """A server that is asked about an image, and then told to end."""
    import base64
    import os
    import signal
    import socket
    import urllib.request

    from mobilevlm.runtime import serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def ask() -> None:
        url = f"data:image/png;base64,{base64.b64encode(IMAGE.read_bytes()).decode()}"
        parts = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": url}}]
        content = json.dumps({"messages": [{"role": "user", "content": parts}], "max_tokens": 4}).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", content)
        asked.add_header("Content-Type", "application/json")
        for _ in range(600):
            try:
                print(urllib.request.urlopen(asked).read())
                break
            except OSError:
                time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask, daemon=True).start()
    sys.argv = ["serve.py", "--engine", "out", "--port", str(port)]
    try:
        serve.main()
    except SystemExit as ended:
        assert ended.code in (0, 143)  # ended by SIGTERM


def ask_bundle(out: Path) -> list[int]:
    """Tokens of a bundle's answer."""
    from mobilevlm.runtime.session import Session

    copy = out.with_name("asked")
    shutil.copytree(out, copy)
    with Session(copy) as session:
        reply = session.chat(QUESTION, IMAGE, max_new_tokens=4)
        "".join(reply)
    shutil.rmtree(copy)
    return list(reply.tokens)
