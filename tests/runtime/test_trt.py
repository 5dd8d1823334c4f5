"""The TensorRT runner on the double, with a tiny random decoder: logits compared with numpy's, in float32.

float16 stays in what is kept between calls: cache rows and rows handed from piece to piece.
"""

from __future__ import annotations

import gc
import json
import shutil

import numpy as np
import pytest

from mobilevlm.engines.bundle import Bundle, BundleError, seal_of
from mobilevlm.engines.stages import MANIFEST_FILE
from mobilevlm.errors import UserError
from mobilevlm.runtime.embeddings import Embeddings
from mobilevlm.runtime.runner import open_runner
from mobilevlm.runtime.tensorrt.image_embeds import PLACES, DeviceEmbeddings
from tests.tensorrt_double import tiny
from tests.tensorrt_double.bundles import compile_here, machine

VERSIONS = ("10.3.0", "10.16.2", "11.4.1")
TOLERANCE = {"fp16": 0.03, "fp32": 2e-4}
ROWS = np.random.default_rng(3).normal(0, 1, (tiny.MAX_CONTEXT, tiny.WIDTH)).astype(np.float16).astype(np.float32)


@pytest.fixture(scope="module")
def wanted() -> np.ndarray:
    """Logits after each of the rows."""
    return tiny.reference(ROWS)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Bundles by number of pieces and precision, as they come from the host."""
    root, made = tmp_path_factory.mktemp("tiny"), {}

    def bundle(pieces: int = 1, precision: str = "fp16"):
        key = (pieces, precision)
        if key not in made:
            made[key] = tiny.write_bundle(root / f"{pieces}-{precision}", pieces, precision)
        return made[key]

    return bundle


@pytest.fixture
def compiled(prepared, tmp_path):
    """Compiles a copy; to be called inside a `machine`."""

    def make(pieces: int = 1, precision: str = "fp16"):
        directory = shutil.copytree(prepared(pieces, precision), tmp_path / f"{pieces}-{precision}")
        return compile_here(directory)

    return make


def in_calls(runner, wanted, *stops: int, past: int = 0, tolerance: float = TOLERANCE["fp16"]) -> None:
    """Run the rows up to each stop in turn, and compare."""
    for stop in stops:
        logits = np.asarray(runner.decode(ROWS[past:stop], past))
        assert np.abs(logits - wanted[stop - 1]).max() < tolerance, (past, stop)
        assert logits.argmax() == wanted[stop - 1].argmax()
        past = stop


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("version", VERSIONS)
def test_prompts_and_tokens_across_lengths_of_the_cache(version, precision, compiled, wanted):
    """Prompts of less and more than a chunk, tokens on both sides of 256 and 512 rows, up to the last row."""
    with machine(version):
        bundle = compiled(1, precision)
        runner = open_runner(bundle)
        stops = [5, 6, 200, 201, 254, 255, 256, 257, 258, 511, 512, 513, 514, 598, 599, 600]
        in_calls(runner, wanted, *stops, tolerance=TOLERANCE[precision])
        # A talk that begins anew, one that goes on from the middle of the last, and a whole context at once.
        in_calls(runner, wanted, 1, 2, 3, tolerance=TOLERANCE[precision])
        in_calls(runner, wanted, 300, 301, past=3, tolerance=TOLERANCE[precision])
        in_calls(runner, wanted, 129, 258, tolerance=TOLERANCE[precision])  # more than two pieces
        in_calls(runner, wanted, 600, tolerance=TOLERANCE[precision])
        runner.close()


@pytest.mark.parametrize("pieces", (1, 2, 4))
@pytest.mark.parametrize("version", ("10.3.0", "10.16.2"))
def test_pieces_say_the_same(version, pieces, compiled, wanted):
    with machine(version) as double:
        runner = open_runner(compiled(pieces))
        in_calls(runner, wanted, 150, 151, 152, 300, 301)
        double.settings.counts.clear()
        found = runner.decode(ROWS[301:302], 301)
        small = 2 * 512  # logits and their tokens, each from where an address may be
        assert double.settings.counts == {"graph launches": 1, "bytes to the host": small, "strided copies": pieces}
        wanted_order = np.argsort(-wanted[301], kind="stable")[: tiny.TOP]
        assert found.tokens.tolist() == wanted_order.tolist() and found.vocabulary == tiny.VOCABULARY
        assert np.abs(found.logits - wanted[301][wanted_order]).max() < TOLERANCE["fp16"]
        everything = found.fetch_all()
        assert np.abs(everything - wanted[301]).max() < TOLERANCE["fp16"]
        assert (everything[found.tokens] == found.logits).all()
        runner.close()


@pytest.mark.parametrize("version", ("10.3.0", "10.16.2"))
def test_everything_is_given_back(version, compiled):
    with machine(version) as double:
        runner = open_runner(compiled(2))
        runner.decode(ROWS[:150], 0)
        runner.decode(ROWS[150:151], 150)  # whose rows are still being copied
        runner.close()
        runner.close()
        with pytest.raises(UserError, match="closed"):
            runner.decode(ROWS[:1], 0)
        del runner
        gc.collect()
        assert double.driver.memory.alive == [] and list(double.driver.objects) == [0]


def test_pictures(compiled):
    with machine():
        runner = open_runner(compiled())
        pixels = np.random.default_rng(0).normal(size=(2, 1, 3, 8, 8)).astype(np.float32)
        on_device = [runner.encode_image(picture) for picture in (*pixels, pixels[0])]
        first, second, again = map(np.asarray, on_device)
        assert first.shape == (4, tiny.WIDTH) and first.dtype == np.float32
        assert (first == again).all() and not (first == second).all()  # not one buffer that is written again
        matrix = np.random.default_rng(1).normal(0, 1, (3, tiny.WIDTH)).astype(np.float16).astype(np.float32)
        means = pixels[0, 0].reshape(3, 2, 4, 2, 4).mean((2, 4)).reshape(3, 4).T
        assert np.abs(first - means @ matrix).max() < 0.01
        runner.close()


def pictures(number: int) -> list[np.ndarray]:
    draws = np.random.default_rng(5).normal(size=(number, 1, 3, 8, 8))
    return list(draws.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("version", ("10.3.0", "10.16.2"))
def test_image_embeddings_stay_on_the_gpu(version, compiled):
    """In prompts where they begin, cross and end chunks of 128 rows, are cut, or are a call of one row."""
    with machine(version) as double:
        runner = open_runner(compiled(2))
        double.settings.counts.clear()
        shown = [runner.encode_image(picture) for picture in pictures(2)]
        assert "bytes to the host" not in double.settings.counts
        on_host = [np.asarray(rows) for rows in shown]
        for text, cut in ((0, 0), (3, 0), (126, 0), (127, 2), (125, 1), (252, 0)):
            parts = [ROWS[:text], shown[0], ROWS[text : text + 9], shown[1][cut:]]
            known = [ROWS[:text], on_host[0], ROWS[text : text + 9], on_host[1][cut:]]
            rows, wanted = Embeddings(parts), tiny.reference(np.concatenate(known))
            assert len(rows) == len(wanted)
            assert np.abs(runner.decode(rows, 0).fetch_all() - wanted[-1]).max() < TOLERANCE["fp16"]
            runner.decode(rows[: text + 2], 0)
            for row in range(text + 2, len(rows)):  # one by one, the picture's too
                found = runner.decode(rows[row : row + 1], row)
                assert np.abs(found.fetch_all() - wanted[row]).max() < TOLERANCE["fp16"]
        runner.close()
        with pytest.raises(UserError, match="closed"):
            np.asarray(shown[0])


def test_more_pictures_than_there_is_room_for_are_kept_by_the_host(compiled):
    with machine():
        runner = open_runner(compiled())
        shown = pictures(PLACES + 3)
        kept = [runner.encode_image(picture) for picture in shown]
        assert [isinstance(rows, DeviceEmbeddings) for rows in kept] == [True] * PLACES + [False] * 3
        first = np.asarray(kept[0])
        part = kept[0][1:]
        del kept[0]
        assert isinstance(runner.encode_image(shown[-1]), np.ndarray)  # a part of it is still held
        del part
        again = runner.encode_image(shown[0])
        assert isinstance(again, DeviceEmbeddings) and (np.asarray(again) == first).all()
        for rows, picture in zip(kept, shown[1:], strict=True):
            assert (np.asarray(rows) == np.asarray(runner.encode_image(picture))).all()
        runner.close()


@pytest.mark.parametrize("failing", ("fail_enqueue", "fail_copy"))
@pytest.mark.parametrize("rows", (1, 300))
def test_after_an_error_in_the_middle_it_goes_on(failing, rows, compiled, wanted):
    with machine() as double:
        runner = open_runner(compiled(2))
        in_calls(runner, wanted, 100)
        if failing == "fail_enqueue" and rows == 1:  # tokens are graphs: what fails is their launch
            runner.not_captured = "a test"
            runner._prepare_tokens(runner._opened)
        setattr(double.settings, failing, 0 if rows == 1 else 3)
        with pytest.raises(UserError, match="illegal memory access|cudaErrorInvalidValue"):
            runner.decode(ROWS[100 : 100 + rows], 100)
        in_calls(runner, wanted, 101, 102, 400, past=100)
        in_calls(runner, wanted, 50, 51)
        runner.close()


def test_a_fault_of_the_gpu_is_for_good_and_closing_is_quiet(compiled):
    with machine(lose=1):
        runner = open_runner(compiled())
        runner.decode(ROWS[:5], 0)
        for _ in range(2):
            with pytest.raises(UserError, match="cudaErrorIllegalAddress.*end this program and start it again"):
                runner.decode(ROWS[5:10], 5)
        runner.close()


def test_without_graphs_it_is_slower_and_says_why(compiled, wanted):
    with machine(capturable=False) as double:
        with pytest.warns(UserWarning, match="tokens run without CUDA graphs"):
            runner = open_runner(compiled())
        assert "capturing" in runner.not_captured
        double.settings.counts.clear()
        in_calls(runner, wanted, 10, 11, 12)
        assert double.settings.counts["enqueues"] == 3 and "graph launches" not in double.settings.counts
        runner.close()


def test_contexts_share_the_memory_they_work_in(compiled):
    """And all of it is taken when a bundle is opened: two contexts' worth would not fit."""
    with machine() as double:
        bundle = compiled()
        before = double.driver.memory.used
        runner = open_runner(bundle)
        blocks = [one for one in double.driver.memory.alive if one.kind == "device"]
        assert len(blocks) == 1
        scratch = runner._opened.engines.scratch_bytes
        in_use = double.driver.memory.used
        assert in_use - before < 2**22 and scratch == 6 << 16
        runner.decode(ROWS[:300], 0)
        assert double.driver.memory.used == in_use
        runner.close()


def test_too_many_rows_are_refused(compiled):
    with machine("10.16.2"):
        runner = open_runner(compiled())
        for rows, past in ((0, 0), (2, tiny.MAX_CONTEXT - 1), (tiny.MAX_CONTEXT + 1, 0)):
            with pytest.raises(ValueError, match="rows behind"):
                runner.decode(np.zeros((rows, tiny.WIDTH), np.float32), past)
        runner.close()


@pytest.mark.parametrize(
    "other, said",
    [
        ({"version": "10.7.0"}, "TensorRT 10.3.0, here is 10.7.0"),
        ({"capability": (8, 6)}, "capability 8.7, here is 8.6"),
    ],
)
def test_engines_of_another_machine_are_refused_before_they_are_loaded(other, said, compiled):
    with machine():
        directory = compiled().directory
    with machine(**other), pytest.raises(BundleError, match=said) as refused:
        open_runner(Bundle.open(directory))
    assert f"python engines/compile.py {directory}" in str(refused.value)


def test_what_is_not_compiled_or_damaged_names_the_command(prepared, compiled):
    with machine() as double:
        with pytest.raises(BundleError, match=r"no vision.engine, decoder.0.engine yet.*engines/compile.py"):
            open_runner(Bundle.open(prepared()))
        bundle = compiled()
        (bundle.directory / "vision.engine").write_bytes(b"nothing")
        with pytest.raises(BundleError, match="vision.engine has 7 bytes"):
            Bundle.open(bundle.directory)
        with pytest.raises(UserError, match="magicTag.*engines/compile.py"):
            open_runner(bundle)
        assert double.driver.memory.used == 0 and list(double.driver.objects) == [0]


def test_short_memory_names_what_helps(compiled):
    with machine() as double:
        bundle = compiled()
        double.driver.memory.capacity = 1 << 18
        with pytest.raises(UserError, match="cudaErrorMemoryAllocation.*NvMap"):
            open_runner(bundle)
        gc.collect()
        assert double.driver.memory.used == 0


def test_the_record_says_what_was_made_of_what(compiled):
    with machine("11.4.1"):
        record = json.loads((compiled(2).directory / MANIFEST_FILE).read_text())["tensorrt"]
    assert record["machine"] == {"version": "11.4.1", "capability": "8.7", "system": ""}
    assert set(record["engines"]) == {"vision", "decoder.0", "decoder.1"}
    assert set(record["engines"]["decoder.1"]["made_from"]["files"]) == {"decoder.1.onnx", "decoder.1.weights"}


def test_a_bundle_of_another_version_is_refused(prepared, tmp_path):
    """Its graphs have other names, and are fed otherwise."""
    directory = shutil.copytree(prepared(1), tmp_path / "old")
    (directory / "decoder.0.onnx").rename(directory / "decoder.0.delta.onnx")
    manifest = json.loads((directory / MANIFEST_FILE).read_text())
    manifest["files"]["decoder.0.delta.onnx"] = manifest["files"].pop("decoder.0.onnx")
    manifest["seal"] = seal_of(manifest)
    (directory / MANIFEST_FILE).write_text(json.dumps(manifest))
    said = r"another version, which wrote no decoder\.0\.onnx\. Build it again: python export/build_engines.py"
    with machine(), pytest.raises(BundleError, match=said):
        compile_here(directory)
    with machine(), pytest.raises(BundleError, match=said):
        open_runner(Bundle.open(directory))
