"""A separate prefill: what it computes against decoders of the same weights, in how many parts, with what memory."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mobilevlm.engines import stages
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.integrity import CHECKED_FILE
from mobilevlm.export.precisions import int8, int8_amx
from mobilevlm.runtime import Session
from mobilevlm.runtime.chat import _describe
from mobilevlm.runtime.ort import sessions as ort_graphs
from mobilevlm.runtime.ort.prefill import FEWEST_ROWS
from mobilevlm.runtime.ort.runner import OrtRunner
from tests.conftest import DEMO, build_here
from tests.faults.test_device_faults import reseal

INT4 = "vision=int8,decoder=int4"  # which is --precision int4
MIX = "vision=int8,prefill={},decoder=int4"


def in_files_of(patch: pytest.MonkeyPatch, module: ModuleType, layers: int) -> None:
    """Build a prefill of a precision with so many layers in a file."""
    patch.setattr(module, "FACTS", replace(module.FACTS, prefill=replace(module.FACTS.prefill, layers=layers)))


@pytest.fixture(scope="module", params=["int8", "int8_amx"])
def bundles(request, tmp_path_factory):
    """int4 with a prefill in several parts, int4 without one, int8."""
    root = tmp_path_factory.mktemp("prefill")
    with pytest.MonkeyPatch.context() as patch:
        in_files_of(patch, int8, 4)
        yield {  # all in this process: weights depend on the number of threads
            name: build_here("--model", DEMO, out=root / str(n), precision=name.format(request.param))
            for n, name in enumerate((MIX, INT4, "int8"))
        }


@pytest.fixture(scope="module")
def runners(bundles):
    return {name: OrtRunner(Bundle.open(directory)) for name, directory in bundles.items()}


def test_layers_in_files_of_another_version_are_refused(tmp_path):
    """Until a layer had a file of its own, six were in one."""
    with pytest.MonkeyPatch.context() as patch:
        in_files_of(patch, int8_amx, 6)
        build_here("--model", DEMO, out=tmp_path / "old", precision=MIX.format("int8_amx"))
    manifest = json.loads((tmp_path / "old" / "bundle.json").read_text())
    del manifest["forms"]  # which that version did not note
    (tmp_path / "old" / "bundle.json").write_text(json.dumps(manifest))
    reseal(tmp_path / "old")
    with pytest.raises(BundleError, match=r"another version, which wrote no prefill\.1\.onnx\. Build it again: python"):
        OrtRunner(Bundle.open(tmp_path / "old"))


def computed(bundles) -> bool:
    """Whether the prefill's weights are computed from the decoder's int4 ones."""
    return Bundle.open(bundles[MIX]).manifest.precision["prefill"] == "int8"


def rows(count: int, seed: int) -> np.ndarray:
    return (0.05 * np.random.default_rng(seed).standard_normal((count, 256))).astype(np.float32)


def test_the_layers_are_in_several_files(bundles):
    """OpenVINO's are alike, a layer each; ONNX Runtime's hold no matrix."""
    names = {path.name for path in bundles[MIX].glob("prefill*")}
    parts, places = (2, {stages.INT4_PLACES_FILE}) if computed(bundles) else (6, set())
    assert names == {f"prefill.{part}.{kind}" for part in range(parts) for kind in ("onnx", "weights")} | places
    size = sum((bundles[MIX] / name).stat().st_size for name in names if name.endswith(".weights"))
    assert (size < 0.5 * (bundles[MIX] / "decoder.weights").stat().st_size) == computed(bundles)
    assert not list(bundles["int8"].glob("prefill*"))
    assert "| prefill | first_logits |" in (bundles[MIX] / "report.md").read_text()


@pytest.mark.parametrize("past", [0, FEWEST_ROWS + 6])
def test_many_rows_are_run_as_by_a_decoder_of_the_same_weights(runners, bundles, past):
    """Fresh prompts and later turns: the cache of the same weights in one graph, and the logits but for roundings.

    Between the files a sum is rounded once more, and an activation beside a half may then fall to its other side. In a
    single prompt of noise that is up to 0.6 of what other weights change, over twelve 0.15 to 0.18.
    """
    same, other = (INT4, "int8") if computed(bundles) else ("int8", INT4)
    off, usual = [], []
    for seed in range(12):
        beginning, prompt = rows(past, 100 + seed), rows(FEWEST_ROWS + 11, seed)
        logits = {}
        for name, runner in runners.items():
            if past:
                runner.decode(beginning, 0)
            logits[name] = runner.decode(prompt, past).copy()
        for key, cache in runners[MIX]._buffers.items():
            codes, expected = (one[0, :, : past + len(prompt)] for one in (cache, runners[same]._buffers[key]))
            assert codes.dtype == np.int8 and expected.dtype == np.float32
            steps = (codes * expected).sum(1, keepdims=True) / (codes.astype(np.float32) ** 2).sum(1, keepdims=True)
            assert (np.abs(codes * steps - expected) / steps).mean() < 1, (
                key
            )  # 0.25 where codes are the nearest, 10 of others
        off.append(np.abs(logits[MIX] - logits[same]).mean())
        usual.append(np.abs(logits[other] - logits[same]).mean())
    assert np.mean(off) < 0.3 * np.mean(usual)  # an int8 cache, whose steps are made for embeddings, beside a float32


@pytest.mark.parametrize("past", [0, FEWEST_ROWS + 6])
def test_a_prompt_in_pieces_is_the_prompt(runners, past):
    """Pieces find in the cache what came before: logits and codes of one piece, but for attending to codes."""
    runner, prompt, another = runners[MIX], rows(FEWEST_ROWS + 39, 4), rows(FEWEST_ROWS + 39, 5)
    logits, codes = {}, {}
    for name, asked, most in (("whole", prompt, None), ("pieces", prompt, 48), ("another", another, None)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner._prefill, "_most_rows", most)
            if past:
                runner.decode(rows(past, 0), 0)
            logits[name] = runner.decode(asked, past).copy()
        buffers = [buffer[0, :, past : past + len(prompt)] for buffer in runner._buffers.values()]
        codes[name] = np.stack(buffers).astype(int)
    for found in (logits, codes):
        off, usual = (np.abs(found[name] - found["whole"]).mean() for name in ("pieces", "another"))
        assert off < 0.4 * usual, (off, usual)  # a wrong place or mask makes it another prompt


def test_few_rows_are_run_by_the_decoder(runners):
    for count in (1, FEWEST_ROWS - 1):
        prompts = [rows(count, seed) for seed in range(2, 14)]  # one alone is noise, as in the test above
        mix, same, other = (
            np.stack([runners[name].decode(prompt, 0).copy() for prompt in prompts]) for name in (MIX, INT4, "int8")
        )
        assert np.abs(mix - same).mean() < 0.5 * np.abs(mix - other).mean()  # the same but for the cache's type


def test_without_memory_for_it_the_decoder_runs_prompts(bundles, runners, monkeypatch, capsys):
    """The same weights, and a verdict of its own."""
    if not computed(bundles):
        pytest.skip("OpenVINO reads weights where they are mapped")
    monkeypatch.setattr(ort_graphs, "available_bytes", lambda: 1000)
    (bundles[MIX] / CHECKED_FILE).unlink(missing_ok=True)
    prompt = rows(FEWEST_ROWS + 11, 1)
    with Session(bundles[MIX]) as session:
        assert session.prompts_by == stages.DECODER
        _describe(session)
        found = session.decoder.decode(prompt, 0).copy()
    off, usual = (np.abs(runners[name].decode(prompt, 0) - found).mean() for name in (MIX, "int8"))
    assert 0 < off < 0.5 * usual
    assert "prompts: run by the decoder, for want of memory" in capsys.readouterr().err
    monkeypatch.undo()
    with Session(bundles[MIX]) as session:
        assert session.prompts_by == stages.PREFILL
        _describe(session)
    assert "prompts: run by" not in capsys.readouterr().err
    assert len(json.loads((bundles[MIX] / CHECKED_FILE).read_text())) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"outputs": 256', '"outputs": 1000000', 1),
        lambda text: text.replace('"values": ', '"values": -', 1),
        lambda text: text.replace('"block"', '"blocks"', 1),
        lambda text: text.replace('"prefill.1"', '"prefill.7"'),
        lambda text: "[]",
    ],
)
def test_damaged_places_are_refused(change, bundles, tmp_path):
    if not computed(bundles):
        pytest.skip("OpenVINO's weights are stored")
    bundle = shutil.copytree(bundles[MIX], tmp_path / "bundle")
    path = bundle / stages.INT4_PLACES_FILE
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    reseal(bundle)
    refused = r"cannot be computed from its decoder \(.*Build the bundle again|prefill.1.onnx cannot be used"
    with pytest.raises(BundleError, match=refused):
        Session(bundle).close()


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells only on Linux")
def test_weights_take_turns_in_memory(runners, bundles):
    """A picture's and a prefill's leave when they are done, and the decoder's had made room for them."""
    runner, size = runners[MIX], runners[MIX]._bundle.config.vision.image_size
    _, first = runner._prefill._graphs["prefill.0"].result()
    parts = [
        ("vision", runner._vision.result()[1], lambda: runner.encode_image(np.zeros((1, 3, size, size), np.float32))),
        ("prefill.0", first, lambda: runner.decode(rows(FEWEST_ROWS, 3), 0)),
    ]
    for part, pages, work in parts[:1] if computed(bundles) else parts:  # or a prefill has next to nothing mapped
        runner.decode(rows(1, 3), 0)
        kept = max(0, runner._decoder_pages.size - pages.size)  # where they lie, not all of it is in memory
        assert resident(bundles[MIX] / "decoder.weights") > kept
        work()
        assert resident(bundles[MIX] / f"{part}.weights") == 0
        assert resident(bundles[MIX] / "decoder.weights") <= kept


def resident(path: Path) -> int:
    """Bytes of a mapped file in this process's memory."""
    mapped = [entry for entry in Path("/proc/self/smaps").read_text().split("VmFlags") if f"{path}\n" in entry]
    assert mapped
    lines = [line for entry in mapped for line in entry.splitlines() if line.startswith("Rss:")]
    return sum(1024 * int(line.split()[1]) for line in lines)
