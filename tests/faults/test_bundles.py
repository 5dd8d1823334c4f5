"""Bundles as untrusted files: each kind that once ended in a traceback or hung is refused with a sentence."""

import json
import os
import random
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import numpy as np
import onnx
import pytest
from onnx import helper

from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.errors import UserError
from mobilevlm.runtime import Session
from mobilevlm.runtime.bench.workers import Worker
from tests.conftest import GOLDEN, build_here
from tests.faults.bundle_mutations import overwrite, reseal
from tests.faults.bundles import SAME, Fuzzer, Library, ask_forked

SEED, CASES = 20261130, 30


@pytest.fixture(scope="module")
def library():
    """What cases are forked from: this process has threads."""
    with Worker("the bundles", Library) as worker:
        yield worker


def resealed(directory, *path, value):
    """Sets a field of the manifest, whose seal is made anew."""
    manifest = json.loads((directory / "bundle.json").read_text())
    holder = manifest
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    reseal(directory, manifest)


def refusal(directory, **options) -> str:
    """The sentence that a bundle is refused with; it names the bundle and a command."""
    with pytest.raises(UserError) as error:
        Session(directory, **options)
    message = str(error.value)
    assert str(directory) in message and "build_engines.py" in message and message.isprintable()
    return message


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("max_context",), "5", "max_context is '5', needed is int"),
        (("max_context",), 2**40, "max_context is 1099511627776, needed is 1 to 1048576"),
        (("max_context",), 100_000, "the model knows positions up to"),
        (("num_image_tokens",), -1, "num_image_tokens is -1"),
        (("precision",), None, "precision is None, needed is an object"),
        (("precision", "nose"), "fp32", "precision is 'nose', needed is vision or prefill or decoder"),
        (("precision",), {"decoder": "fp32"}, "forms of decoder, vision, and precisions of decoder"),
        (("forms", "decoder", "cache_dtype"), "object", "forms.decoder.cache_dtype is 'object', needed is float32"),
        (("forms", "decoder", "runtime"), "shell", "forms.decoder.runtime is 'shell'"),
        (("model",), [], "model is a list, needed is an object"),
        (("model", "vision"), 5, "the vision tower's configuration is 5"),
        (("model", "vision", "nose"), 5, "nose, which is no field of it"),
        (("model", "vision", "\x1b[1m"), 5, r"x1b\[1m', which is no field of it"),
        (("model", "vision", "hidden_act"), "mish", "hidden_act 'mish'; quick_gelu, gelu and gelu_pytorch_tanh are"),
        (("model", "vision", "image_mean"), [0.5, 0.5], "image_mean .* three numbers is needed"),
        (("model", "vision", "image_size"), 2**20, "1 to 4096 is possible"),
        (("model", "num_attention_heads"), 2**20, "num_attention_heads"),
        (("model", "num_hidden_layers"), 2**20, "1 to 1024 is possible"),
        (("model", "rope_parameters"), [1], "an object is needed"),
        (("model", "rms_norm_eps"), -1.0, "it has to be above 0"),
        (("files", "../../etc/passwd"), {"size": 1, "sha256": "0" * 64}, "needed is a file's name in the bundle"),
        (("files", "decoder.weights", "size"), "5", "files.decoder.weights.size is '5', needed is int"),
        (("files", "decoder.weights"), {"size": 5}, "files.decoder.weights.sha256 is missing"),
        (("verification", "decoder", "logits", "snr_db"), "loud", "snr_db is 'loud', needed is float"),
        (("parts",), {"decoder": [0, 99]}, "parts are .* the model has"),
        (("spare",), ["nothing.onnx"], "spare has nothing.onnx"),
        (("name",), "\x1b[2J", "name is .* needed is printable text"),
        (("command",), "python export/build_engines.py; rm -rf ~", "its command is not one that builds a bundle"),
        (("tensorrt",), {"engines": {"decoder": {"seconds": 1}}}, "made_from is missing"),
        (("compiled",), {"soc": "8gen3"}, "compiled lacks htp"),
        (("choices",), {"temperature": 0}, "choices.temperature is 0"),
        (("nonsense",), 1, "nonsense is no field that this version knows"),
    ],
)
def test_a_manifest_whose_seal_was_made_anew(path, value, words, bundle_copy):
    resealed(bundle_copy, *path, value=value)
    with pytest.raises(UserError, match=words):
        Session(bundle_copy)
    refusal(bundle_copy)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested deeper"),
        ('{"a": ' * 50 + "1" + "}" * 50, "nested deeper"),
        ('{"seal": 1, "seal": 2}', "'seal' twice"),
        ('{"a": NaN}', "the number NaN"),
        ('{"a": 1e999}', "the number 1e999"),
        ('{"a": "' + "x" * 2**20 + '"}', "more than 1048576 bytes"),
        ("[]", "holds no object"),
        ("\x00\x01", "cannot be read"),
    ],
)
def test_a_manifest_that_is_no_json_of_ours(text, words, bundle_copy):
    overwrite(bundle_copy / "bundle.json", text.encode())
    assert words in refusal(bundle_copy)


def test_a_kv_cache_beyond_this_machine(bundle_copy, monkeypatch):
    monkeypatch.setattr("mobilevlm.engines.machine.total_bytes", lambda: 1000)
    with pytest.raises(UserError, match=r"kv cache of \d+ tokens takes .* layers, this machine has .*--max-context"):
        Session(bundle_copy)


@pytest.mark.parametrize("name", ["embed_tokens.npy", "golden.safetensors", "tokenizer.model", "decoder.onnx"])
def test_damaged_files_whose_hash_was_made_anew(name, bundle_copy):
    draws, content = random.Random(SEED), (bundle_copy / name).read_bytes()
    for damaged in (b"", content[:50], draws.randbytes(len(content)), b"\xff" * 8 + content[8:]):
        overwrite(bundle_copy / name, damaged)
        reseal(bundle_copy, changed=(name,))
        with pytest.raises(UserError, match=name):
            Session(bundle_copy)


def test_a_table_of_another_size_than_its_header(bundle_copy):
    table = np.load(bundle_copy / "embed_tokens.npy")
    for wrong, words in (
        (table[:-1], "its model needs"),
        (table.astype(np.float64), "no table"),
        (table.T, "model needs"),
    ):
        np.save(bundle_copy / "t.npy", np.ascontiguousarray(wrong))
        overwrite(bundle_copy / "embed_tokens.npy", (bundle_copy / "t.npy").read_bytes())
        (bundle_copy / "t.npy").unlink()
        reseal(bundle_copy, changed=("embed_tokens.npy",))
        assert words in refusal(bundle_copy)


def edited(directory, change):
    """Changes the decoder's graph, whose hash is made anew."""
    model = onnx.load(str(directory / "decoder.onnx"), load_external_data=False)
    change(model.graph)
    overwrite(directory / "decoder.onnx", model.SerializeToString())
    reseal(directory, changed=("decoder.onnx",))


def _place(key, value):
    def change(graph):
        tensor = next(one for one in graph.initializer if one.external_data)
        next(entry for entry in tensor.external_data if entry.key == key).value = value

    return change


def _inside(graph):
    inner = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "g", [], [])
    graph.node[0].attribute.append(helper.make_attribute("body", inner))


def _cache(graph):
    graph.input[-1].type.tensor_type.shape.dim[2].dim_value = 7


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_place("location", "/etc/passwd"), "outside the bundle's files, in '/etc/passwd'"),
        (_place("location", "../../secret"), "outside the bundle's files"),
        (_place("offset", "-8"), "outside the bundle's files"),
        (_place("length", str(2**60)), "outside the bundle's files"),
        (_place("offset", "x"), "outside the bundle's files"),
        (_inside, "a graph inside a node"),
        (_cache, "has shape .*, the model needs"),
        (lambda graph: graph.input.pop(), "is too many or missing"),
        (lambda graph: graph.output.pop(), "it has no output"),
    ],
)
def test_a_graph_that_no_build_writes(change, words, bundle_copy):
    edited(bundle_copy, change)
    with pytest.raises(BundleError, match=f"decoder.onnx cannot be used: .*{words}"):
        Session(bundle_copy)


@pytest.fixture(scope="module", params=["orin", "snapdragon"])
def of_a_device(request, tmp_path_factory):
    """A bundle whose decoder is cut into parts, and the decoder's first graph that a CPU runs."""
    out, model = tmp_path_factory.mktemp("device") / request.param, GOLDEN / "v2_ldpnetv2_336" / "ckpt_safetensors"
    is_npu = request.param == "snapdragon"
    words = ("--model", model, "--target", request.param, *["--no-compile"] * is_npu)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        build_here(*words, out=out, precision="a16w8" if is_npu else "fp16")
    return out, "decoder.0.prompt.onnx" if is_npu else "decoder.0.float32.onnx"


def test_a_device_s_graph_in_another_ones_place(of_a_device, tmp_path):
    """Kind: the vision stage where the decoder was: KeyError and ValueError from the middle of an answer."""
    base, graph = of_a_device
    shutil.copytree(base, directory := tmp_path / "bundle")
    vision = "vision.float32.onnx" if (base / "vision.float32.onnx").exists() else "vision.onnx"
    overwrite(directory / graph, (base / vision).read_bytes())
    reseal(directory, changed=(graph,))
    assert re.search(rf"{graph} cannot be used: its inputs are pixel_values", refusal(directory, on_cpu=True))


def test_a_device_s_decoder_without_parts(of_a_device, tmp_path):
    """Kind: a field that is left out: UnboundLocalError."""
    shutil.copytree(of_a_device[0], directory := tmp_path / "bundle")
    resealed(directory, "parts", value={})
    assert "parts is missing" in refusal(directory, on_cpu=True)


@pytest.mark.parametrize("name", ["decoder.weights", "bundle.json", ".seen.json", ".checked.json"])
@pytest.mark.parametrize("kind", ["fifo", "device", "out", "circle"])
def test_links_and_devices_in_a_files_place(name, kind, bundle_copy, bundle, library):
    """Opening neither waits for ever nor reads what lies outside; side files are made anew."""
    path = bundle_copy / name
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to({"device": "/dev/zero", "out": bundle / name, "circle": name}[kind])
    found = library.call(ask_forked, bundle_copy, True)
    if name.startswith(".") or (name, kind) == ("bundle.json", "out"):
        assert found.end == SAME, found.detail
    else:
        assert found.end == "refused" and name in found.detail, found


def test_side_files_are_not_written_through_a_link(bundle_copy, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("a thesis")
    for name in (".seen.json", ".checked.json", f".seen.json.{os.getpid()}.partial"):
        (bundle_copy / name).unlink(missing_ok=True)
        (bundle_copy / name).symlink_to(precious)
    Session(bundle_copy).close()
    assert precious.read_text() == "a thesis"
    assert not (bundle_copy / ".seen.json").is_symlink() and not (bundle_copy / ".checked.json").is_symlink()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": [1, 2]}', "[1]", "null", "[" + "1," * 10**6 + "1]"])
def test_side_files_that_hold_anything(text, bundle_copy, bundle, library):
    for name in (".seen.json", ".checked.json"):
        (bundle_copy / name).unlink(missing_ok=True)
        (bundle_copy / name).write_text(text)
    assert library.call(ask_forked, bundle_copy, True) == library.call(ask_forked, bundle, True)


@pytest.mark.parametrize("chosen", ["..", "../x", "/etc", 5, "a"])
def test_a_folder_of_candidates_leads_nowhere_else(chosen, tmp_path):
    content = {"names": [chosen], "command": "x", "chosen": chosen}
    (tmp_path / "candidates.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="candidates.json cannot be read|no engine bundle"):
        Bundle.open(tmp_path)


def test_an_altered_file_is_named_and_no_other(bundle_copy):
    files = Bundle.open(bundle_copy).manifest.files
    for name in sorted(files):
        before = (bundle_copy / name).read_bytes()
        overwrite(bundle_copy / name, bytes([before[0] ^ 1]) + before[1:])
        with pytest.raises(UserError, match=rf"damaged: {re.escape(name)} was altered"):
            Bundle.open(bundle_copy)
        overwrite(bundle_copy / name, before)
    Bundle.open(bundle_copy)


def test_some_mutations_of_a_fixed_seed(bundles, tmp_path_factory, library):
    """A slice of `python -m tests.faults.bundles`."""
    folder = tmp_path_factory.getbasetemp() / "mutated"
    folder.mkdir()
    fuzzer = Fuzzer(list(bundles.values()), folder, library)
    failed = [(case, outcome) for seed in range(SEED, SEED + CASES) for case, outcome, bad in [fuzzer.run(seed)] if bad]
    assert not failed
