"""A small job of every console command, in the order in which one makes what the next needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from tests.conftest import DEMO, GOLDEN, ROOT
from tests.faults.traced import Room, Traced

PICTURE = ROOT / "assets" / "shapes.png"
LORA = GOLDEN / "lora_v1"
TOKENIZER = GOLDEN / "_common" / "tokenizer_small"
ASKED = ("--prompt", "What color is the circle?", "--image", PICTURE, "--max-new-tokens", 8)
STEPS = ("--max-steps", 2, "--warmup-steps", 1, "--save-steps", 2, "--dataloader-num-workers", 0)
BATCH = ("--global-batch-size", 4, "--per-device-train-batch-size", 4)
# Those that need what is not here do what they can: they show their help, or say what is missing.
HELP = ("--help",)
# One request to a server that the machine itself asks.
SERVED = """
import re, subprocess, sys, urllib.request
server = subprocess.Popen([sys.executable, *sys.argv[1:]], stderr=subprocess.PIPE, text=True)
for line in server.stderr:
    sys.stderr.write(line)
    if found := re.search(r"serving (http://\\S+)", line):
        print(urllib.request.urlopen(found[1] + "/v1/models").read())
        server.terminate()
        break
else:
    sys.exit(server.wait(30))
server.wait(30)
"""


@dataclass(frozen=True)
class Job:
    """One command line.

    Attributes:
        script: of the command, a key of `CONSOLE_SCRIPTS`.
        words: behind it.
        what: the job, for the table.
        status: the exit status it ends with.
        around: Python code that starts it, empty for none.
        alone: whether the network is taken away; a server waits on the loopback device.
    """

    script: str
    words: tuple[object, ...]
    what: str
    status: int = 0
    around: str = ""
    alone: bool = True

    def traced(self, room: Room) -> Traced:
        """Runs it under strace."""
        start = ["-c", self.around] if self.around else []
        return room.run(*start, ROOT / self.script, *map(str, self.words), alone=self.alone)


def prepare(room: Room) -> None:
    """Makes what no command of ours makes: benchmark data, a video, rows and texts to train on."""
    demo = ROOT / "train" / "demo"
    for words in (
        (demo / "make_benchmarks.py", "--out", "data", "--questions", 4),
        (demo / "footage.py", "--out", "clip.mp4", "--seconds", 4, "--fps", 5),
    ):
        done = room.run(*words)
        assert done.returncode == 0, done.said
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A red circle."}]
    rows = [{"id": f"{number}", "image": PICTURE.name, "conversations": turns} for number in range(8)]
    (room.work / "rows.json").write_text(json.dumps(rows))
    texts = [f"There are {n} red circles and {m} blue stars." for n in range(30) for m in range(30)]
    (room.work / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    question = {"image": str(PICTURE), "question": "What color is the circle?", "answer": "red"}
    (room.work / "questions.jsonl").write_text(json.dumps(question) + "\n")


def jobs() -> Iterator[Job]:
    """The jobs, to be done in this order in one `Room`."""
    yield from _builds()
    yield from _answers()
    yield from _evaluations()
    yield from _training()
    yield from _boards()


def _builds() -> Iterator[Job]:
    model = ("--model", DEMO)
    build = "export/build_engines.py"
    yield Job(build, (*model, "--target", "host", "--precision", "fp32", "--out", "fp32"), "host, fp32")
    amx = "vision=int8_amx,prefill=int8_amx,decoder=int4"
    yield Job(build, (*model, "--target", "host", "--precision", amx, "--out", "amx"), "host, int8_amx (OpenVINO)")
    yield Job(build, (*model, "--target", "snapdragon-cpu", "--precision", "fp32", "--out", "arm"), "snapdragon-cpu")
    yield Job(
        build,
        (*model, "--target", "snapdragon", "--soc", "8gen3", "--max-context", 256, "--out", "npu"),
        "snapdragon, compiled with ONNX Runtime QNN",
    )
    yield Job(build, (*model, "--target", "orin", "--precision", "fp16", "--max-context", 512, "--out", "orin"), "orin")
    yield Job("engines/judge.py", ("orin",), "the orin bundle, with TensorRT-RTX")
    yield Job("engines/compile.py", ("orin",), "refused: no TensorRT here", 2)
    yield Job("runtime/choose.py", ("--engine", "orin"), "refused: no candidates", 2)
    yield Job("export/phone_kit.py", ("--engine", "arm", "--out", "kit"), "of the snapdragon-cpu bundle")
    yield Job("export/deploy.py", HELP, "its help")


def _answers() -> Iterator[Job]:
    for engine in ("fp32", "amx"):
        yield Job("runtime/chat.py", ("--engine", engine, *ASKED), f"a question to {engine}")
    yield Job("runtime/verify.py", ("--engine", "fp32"), "fp32")
    quick = ("--repeats", 1, "--decode-tokens", 2, "--prompt-tokens", 200, "--wait", 0)
    yield Job("runtime/benchmark.py", ("--engine", "fp32", *quick), "fp32, one repetition")
    twice = ("--engine", "fp32", "--engine", "amx", "--decode-tokens", 2, "--rounds", 2, "--wait", 0)
    yield Job("runtime/answer_times.py", twice, "two bundles")
    yield Job("runtime/smoke.py", ("--engine", "fp32"), "refused: not for an NVIDIA GPU", 2)
    serve = ("--engine", "fp32", "--port", 0)
    yield Job("runtime/serve.py", serve, "a request from this machine", around=SERVED, alone=False)
    load = ("--engine", "fp32", "--image", PICTURE, "--rounds", 1, "--clients", 1, "--seconds", 1, "--plot", "load.png")
    yield Job("runtime/serve_benchmark.py", load, "one client, a plot", alone=False)
    watch = ("--engine", "fp32", "--source", "clip.mp4", "--ask", "Is there a circle?", "--choices", "yes,no")
    yield Job("runtime/watch.py", watch, "a video file")


def _evaluations() -> Iterator[Job]:
    for engine in ("fp32", "amx"):
        words = ("--engine", engine, "--data", "data", "--tasks", "gqa", "--out", f"eval-{engine}")
        yield Job("eval/run.py", words, f"GQA with {engine}")
    yield Job("eval/compare.py", ("eval-fp32", "eval-amx", "--out", "compared"), "two runs, a plot")
    asked = ("--questions", "questions.jsonl", "--engine", "fp32", "--out", "asked")
    yield Job("eval/questions.py", asked, "one question")
    fitted = ("--engine", "fp32", "--data", "data", "--dry-run")
    yield Job("eval/calibrate_choices.py", fitted, "on the benchmarks")


def _training() -> Iterator[Job]:
    rows = ("--data", "rows.json", "--images", PICTURE.parent)
    yield Job("train/prepare_data.py", ("--json", "rows.json", "--images", PICTURE.parent), "eight rows")
    tower = ("--model", LORA / "base", "--vision-tower", LORA / "openai_clip_tiny")
    words = (
        "--recipe",
        "v1_stage1",
        *tower,
        *rows,
        *STEPS,
        *BATCH,
        "--no-bf16",
        "--parallel",
        "none",
        "--out",
        "tuned",
    )
    yield Job("train/finetune.py", words, "two steps")
    yield Job("train/merge_lora.py", (LORA / "base", LORA / "lora", "merged"), "a tiny model's")
    yield Job(
        "train/train_tokenizer.py", ("--data", "texts.jsonl", "--vocab-size", 620, "--out", "pieces"), "900 lines"
    )
    text = (
        "--recipe",
        "demo_language",
        "--size",
        "mobilevlm_v2_demo",
        "--tokenizer",
        "pieces",
        "--data",
        "texts.jsonl",
    )
    text += ("--model-max-length", 64, *STEPS, *BATCH, "--out", "language")
    yield Job("train/language_pretrain.py", text, "two steps")
    pairs = ("--recipe", "demo_tower", "--size", "mobilevlm_v2_demo", "--tokenizer", TOKENIZER)
    pairs += ("--region-loss-weight", 0)
    yield Job("train/vision_pretrain.py", (*pairs, *rows, *STEPS, *BATCH, "--out", "tower"), "two steps")


def _boards() -> Iterator[Job]:
    yield Job("jetson/doctor.py", (), "refused: no Jetson", 2)
    yield Job("jetson/limits.py", ("--model", "mobilevlm_v2_1.7b"), "1.7B")
    quick = (
        "--repeats",
        1,
        "--decode-tokens",
        2,
        "--answers-seconds",
        1,
        "--save",
        "board.json",
        "--plot",
        "board.png",
    )
    yield Job("jetson/benchmark.py", ("--engine", "fp32", *quick, "--board", "orin-nano-8"), "fp32, on this machine")
    yield Job("jetson/compare.py", ("board.json", "board.json"), "a benchmark with itself")
    yield Job("jetson/extlinux.py", ("cma=950M", "--file", "missing.conf"), "refused: no such file", 2)
