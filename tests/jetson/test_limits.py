"""The paper model, against sums done by hand and sizes that were published; the command that prints it."""

import json
import re
from dataclasses import replace
from math import prod

import pytest

from mobilevlm.checkpoint.config import ModelConfig, VisionConfig, read_json
from mobilevlm.engines.targets import TARGETS
from mobilevlm.engines.tensorrt.counted import Call, Counted, read_counted
from mobilevlm.errors import UserError
from mobilevlm.export.precisions import a16w8, facts_of
from mobilevlm.jetson.limits import parse_mix
from mobilevlm.jetson.modules import MODULES
from mobilevlm.jetson.references import REFERENCES, references_for
from mobilevlm.jetson.roofline import (
    KERNEL_GAP_S,
    PAPER,
    Hardware,
    cache_row_bytes,
    decoder_bytes,
    linear_weights,
    paper_limits,
    vision_bytes,
)
from mobilevlm.model.projectors import num_image_tokens
from mobilevlm.presets import PRESETS
from mobilevlm.runtime.bench.workload import decoder_operations, vision_operations
from tests.conftest import GOLDEN, GOLDEN_MODELS, ROOT, run

LIMITS = ROOT / "jetson" / "limits.py"
SMALL = PRESETS["mobilevlm_v2_1.7b"]
AGX = Hardware(MODULES["agx-orin-64"])


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [("mobilellama_1.4b", 1_364_297_728), ("mobilellama_2.7b", 2_701_560_320), ("mobilevlm_v2_7b", 6_738_415_616)],
)
def test_weights_add_up_to_the_published_models(preset, parameters):
    """With the embedding table and the norms it is every parameter; the 7B is LLaMA's own count."""
    config = PRESETS[preset]
    head = config.vocab_size * config.hidden_size
    norms = (2 * config.num_hidden_layers + 1) * config.hidden_size
    assert linear_weights(config) + 2 * head + norms == parameters


def test_bytes_of_the_1_7b_by_hand():
    linears = 24 * (4 * 2048 * 2048 + 3 * 2048 * 5632)  # 1,233,125,376
    head = 32000 * 2048
    assert decoder_bytes(SMALL, PAPER["fp16"]) == 2 * (linears + head) == 2_597_322_752
    assert decoder_bytes(SMALL, PAPER["int8"]) == linears + 2 * head  # lm_head in fp16
    assert decoder_bytes(SMALL, PAPER["int4"]) == linears / 2 + linears / 128 * 2 + 2 * head  # scales; lm_head in fp16
    assert cache_row_bytes(SMALL, PAPER["int4"]) == 24 * 2 * 2048 * 2
    assert cache_row_bytes(SMALL, PAPER["fp32"]) == 2 * cache_row_bytes(SMALL, PAPER["fp16"])


@pytest.mark.parametrize("name", GOLDEN_MODELS)
def test_weights_are_those_of_the_original_checkpoints(name):
    """Summed from the shapes that the original implementation wrote: linears and 1 x 1 convolutions, layers in use."""
    folder = GOLDEN / name
    vision = VisionConfig.from_files(read_json(folder / "vision_tower" / "config.json"))
    config = ModelConfig.from_published(read_json(folder / "ckpt_safetensors" / "config.json"), vision)
    shapes = json.loads((GOLDEN / "state_dict_shapes.json").read_text())[name]

    def weights(pattern: str) -> int:
        return sum(prod(shape) for key, shape in shapes.items() if re.fullmatch(pattern, key))

    assert linear_weights(config) == weights(r"model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight") > 0
    assert decoder_bytes(config, PAPER["int8"]) - linear_weights(config) == 2 * weights(r"lm_head\.weight") > 0
    layers = "|".join(map(str, range(config.num_vision_layers)))
    used = weights(rf".*encoder\.layers\.({layers})\.(self_attn|mlp)\.\w+\.weight")
    projector = weights(r".*mm_projector.*\.mlp\.\d\.weight") + weights(r".*mb_block\.\d\.block\.2\.0\.weight")
    assert vision_bytes(config, PAPER["int8"]) == used + projector + weights(r".*patch_embedding\.weight")


def test_decode_by_hand():
    """V2-1.7B, fp16, 204 rows in the cache, AGX Orin: 2.60 GB of weights and 40 MB of cache at 204.8 GB/s."""
    limit = AGX.decode(SMALL, 1, 204, PAPER["fp16"])
    assert limit.gigabytes == pytest.approx((2_597_322_752 + 204 * 196_608) / 1e9)
    assert limit.memory_ms == pytest.approx(12.88, abs=0.01)
    # Two operations a weight, and 24 layers of queries and sums over 205 rows; 16 x 2048 x 1.3 GHz = 42.6 TFLOP/s.
    assert limit.compute_ms == pytest.approx((2 * 1_298_661_376 + 24 * 4 * 205 * 2048) / 42.5984e12 * 1e3)
    assert limit.launch_ms == pytest.approx((24 * 9 + 3) * 0.5e-3)
    assert limit.ms == pytest.approx(limit.memory_ms + limit.launch_ms) and limit.bound == "memory"
    assert 1e3 / limit.ms == pytest.approx(77.0, abs=0.1)


def test_prefill_and_encode_by_hand():
    prefill = AGX.decode(SMALL, 204, 0, PAPER["fp16"])
    # Linears of 204 rows, the last layer's behind its attention only once, and lm_head once; at 42.6 TFLOP/s.
    operations = decoder_operations(SMALL, 204)
    assert prefill.compute_ms == pytest.approx(1e3 * operations / (16 * 2048 * 1.3e9))
    assert 0.9 * 2 * 1.2331e9 * 204 < operations < 2 * 1.2331e9 * 204 * 1.02
    encode = AGX.encode(SMALL, PAPER["fp16"])
    assert encode.bound == "compute"
    assert encode.compute_ms == pytest.approx(1e3 * vision_operations(SMALL) / (16 * 2048 * 1.3e9))
    assert encode.compute_ms == pytest.approx(8.7, abs=0.1)


def test_int8_halves_linears_and_not_attention():
    attention = 23 * 4 * 577**2 * 1024
    full, halved = AGX.encode(SMALL, PAPER["fp16"]).compute_ms, AGX.encode(SMALL, PAPER["int8"]).compute_ms
    assert full - halved == pytest.approx((full - 1e3 * attention / (16 * 2048 * 1.3e9)) / 2)


def test_int4_computes_as_fp16_and_reads_less():
    half, four = (AGX.decode(SMALL, 204, 0, PAPER[precision]) for precision in ("fp16", "int4"))
    assert four.compute_ms == pytest.approx(half.compute_ms)
    assert four.memory_ms < 0.31 * half.memory_ms and four.bound == "compute"


def test_slower_clocks_are_slower_limits():
    slow = Hardware(MODULES["orin-nano-8-super"], gpu_mhz=510, emc_mhz=1600).decode(SMALL, 1, 204, PAPER["int8"])
    fast = Hardware(MODULES["orin-nano-8-super"]).decode(SMALL, 1, 204, PAPER["int8"])
    assert slow.memory_ms == pytest.approx(2 * fast.memory_ms) and slow.compute_ms == pytest.approx(2 * fast.compute_ms)


def test_forms_on_paper_are_those_of_the_precisions():
    """Without a bundle nothing is asked of `export`, so that what a precision's file says can only be compared."""
    assert set(PAPER) == set(TARGETS["orin"].precisions["decoder"])
    assert {name: facts_of("tensorrt", name).form for name in PAPER} == PAPER


def test_names_are_the_benchmarks():
    mix, npu = {"vision": PAPER["fp16"], "decoder": PAPER["int8"]}, a16w8.FACTS.form
    limits = paper_limits(AGX, SMALL, mix, 204, (204, 2016))
    assert list(limits) == ["image encode", "prefill", "TTFT", "decode after 204", "decode after 2016"]
    assert limits["TTFT"].ms == limits["image encode"].ms + limits["prefill"].ms
    assert limits["decode after 2016"].gigabytes - limits["decode after 204"].gigabytes == pytest.approx(
        1812 * 196608e-9
    )
    assert list(paper_limits(AGX, SMALL, mix | {"vision": npu}, 204, ())) == ["prefill"]
    assert paper_limits(AGX, SMALL, {"vision": npu, "decoder": npu}, 204, (204,)) == {}
    text = paper_limits(AGX, PRESETS["mobilellama_1.4b"], {"decoder": PAPER["fp16"]}, 204, ())
    assert text["TTFT"] == text["prefill"]


def test_published_figures_do_not_beat_paper():
    """llama.cpp's own figures lie above the least times of its weights (4.5 bits each and more) on that board."""
    (measured,) = (one for one in REFERENCES if one.stage == "decode" and "MobileVLM-1.7B" in one.what)
    assert 1e3 / measured.value > AGX.decode(SMALL, 1, 204, PAPER["int4"]).ms
    (encode,) = (one for one in REFERENCES if one.stage == "image encode" and "MobileVLM" in one.what)
    assert encode.value > AGX.encode(SMALL, PAPER["fp16"]).ms


def test_references_are_of_boards_that_exist():
    for one in REFERENCES:
        assert one.board in MODULES and one.stage in ("image encode", "prefill", "TTFT", "decode")
        assert one in references_for(one.board, f"{one.stage} after 7" if one.stage == "decode" else one.stage)
    assert references_for("orin-nano-8-super", "decode after 204") == references_for("orin-nano-8", "decode")
    assert references_for("", "decode") == [] == references_for("agx-orin-64", "load")


def test_rows_of_a_picture():
    assert num_image_tokens(SMALL) == num_image_tokens(PRESETS["mobilevlm_3b"]) == 144
    assert num_image_tokens(replace(SMALL, mm_projector_type="mlp2x_gelu")) == 576
    assert num_image_tokens(PRESETS["mobilellama_1.4b"]) == 0
    assert num_image_tokens(PRESETS["mobilevlm_v2_demo"]) == 144  # whose grid is what LDPv2 pools to


def test_mixes():
    assert parse_mix("fp16") == {"vision": "fp16", "decoder": "fp16"}
    assert parse_mix("int4") == {"vision": "int8", "decoder": "int4"}
    assert parse_mix("decoder=int4,vision=fp32") == {"vision": "fp32", "decoder": "int4"}


def table_of(done) -> list[dict[str, str]]:
    assert done.returncode == 0, done.stderr
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if "|" in line]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_the_command_prints_all_boards():
    rows = table_of(run(LIMITS, "--model", "mobilevlm_v2_1.7b"))
    assert [row["board"] for row in rows[::4]] == list(MODULES)
    first = rows[0]
    assert (first["vision"], first["decoder"], first["tokens/s after 204"]) == ("fp16", "fp16", "77.0")
    assert float(first["TTFT ms"]) == pytest.approx(
        float(first["encode ms"]) + float(first["prefill(204) ms"]), abs=0.11
    )
    # 592.6 MB of vision, 2597.3 of decoder, 131.1 of table, 40.1 of cache
    assert first["GB"] == "3.36" and first["fits"] == "yes"
    by_board = {(row["board"], row["decoder"]): row["fits"] for row in rows}
    assert by_board["orin-nano-4", "fp16"] == "no" and by_board["orin-nano-4", "int4"] == "yes"


def test_the_command_for_one_board():
    done = run(
        LIMITS, "--board", "orin-nano-8", "--precision", "int8", "--context", 1024, "--model", "mobilellama_1.4b"
    )
    (row,) = table_of(done)
    assert row["encode ms"] == row["vision"] == "" and row["decoder"] == "int8"
    expected = 1e3 / Hardware(MODULES["orin-nano-8"]).decode(PRESETS["mobilellama_1.4b"], 1, 1024, PAPER["int8"]).ms
    assert float(row["tokens/s after 1024"]) == pytest.approx(expected, abs=0.05)
    assert "not measured" in done.stdout and "36.9 tokens/s" in done.stdout and "agx" not in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "int5"], "--precision int5 has no figures"),
        (["--precision", "vision=int4,decoder=int4"], "has no figures"),
        (["--precision", "decoder=int4"], "has no figures"),
        (["--prompt-tokens", "0"], "has to be 1 at least"),
    ],
)
def test_mistakes(words, message):
    done = run(LIMITS, *words)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1


PIECES = ("decoder.0", "decoder.1")
# Kernels and bytes of a piece: a prompt's rows and a token, behind two lengths of the cache.
DECODER_CALLS = {(127, 256): (30, 2_000_000_000), (127, 512): (31, 2_100_000_000), (1, 256): (20, 1_000_000_000)}
DECODER_CALLS[1, 512] = (20, 1_050_000_000)
COUNTED = Counted(
    "model",
    json.loads(json.dumps(SMALL.to_dict())),
    "orin",
    {"vision": "fp16", "decoder": "fp16"},
    "1.7.1",
    "SM86",
    (
        Call("vision", 0, 0, 250, 1_500_000_000),
        *(Call(part, *sizes, *made) for part in PIECES for sizes, made in DECODER_CALLS.items()),
    ),
)


FORMS = {stage: PAPER[name] for stage, name in COUNTED.precision.items()}


def test_counted_calls_by_hand():
    assert COUNTED.image() == (250, 1_500_000_000)
    assert COUNTED.token(0) == COUNTED.token(256) == (40, 2_000_000_000)
    assert COUNTED.token(257) == (40, 2_100_000_000)
    assert COUNTED.prompt(100) == (60, 4_000_000_000)
    assert COUNTED.prompt(204) == (120, 8_000_000_000)  # 77 rows, then 127 behind them: the weights are read twice
    # 19, 127 and 127 rows behind up to 146, 127 behind 273.
    assert COUNTED.prompt(400) == (3 * 60 + 62, 3 * 4_000_000_000 + 4_200_000_000)
    with pytest.raises(UserError, match="1 rows behind 513 are more than the bundle's engines hold, 512"):
        COUNTED.token(513)


def test_limits_by_counted_calls_by_hand():
    limits = paper_limits(AGX, SMALL, FORMS, 204, (300,), COUNTED)
    bandwidth = MODULES["agx-orin-64"].gb_per_s() * 1e9
    for name, (kernels, size) in {
        "image encode": (250, 1_500_000_000),
        "prefill": (120, 8_000_000_000),
        "decode after 300": (40, 2_100_000_000),
    }.items():
        assert limits[name].memory_ms == pytest.approx(1e3 * size / bandwidth)
        assert limits[name].launch_ms == pytest.approx(1e3 * kernels * KERNEL_GAP_S)
    least = paper_limits(AGX, SMALL, FORMS, 204, (300,))
    assert limits["prefill"].compute_ms == least["prefill"].compute_ms


def test_the_command_prints_what_was_counted_beside_the_least(tmp_path):
    COUNTED.write(tmp_path / "counted.json")
    assert read_counted(tmp_path / "counted.json") == COUNTED
    done = run(LIMITS, "--counted", tmp_path / "counted.json", "--board", "agx-orin-64")
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if "agx-orin-64 |" in line]
    assert [row[3].strip() for row in rows] == ["least", "counted"]
    assert float(rows[1][7]) > float(rows[0][7])  # prefill
    replace(COUNTED, precision={"vision": "fp16", "decoder": "fp5"}).write(tmp_path / "other.json")
    done = run(LIMITS, "--counted", tmp_path / "other.json")
    assert done.returncode == 2 and "other.json counts a bundle of decoder=fp5, which has no figures" in done.stderr
    (tmp_path / "counted.json").write_text("[]")
    for name, said in (("counted.json", "is not what engines/judge.py writes"), ("none.json", "cannot be read")):
        done = run(LIMITS, "--counted", tmp_path / name)
        assert done.returncode == 2 and said in done.stderr and "engines/judge.py DIR --json" in done.stderr
