"""Bundles: complete or refused, and every refusal names the command that mends it."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines.atomic_dir import check_output, staged
from mobilevlm.engines.bundle import Bundle, BundleError, seal_of
from mobilevlm.presets import PRESETS


def test_an_intact_bundle_opens(bundle):
    opened = Bundle.open(bundle)
    assert opened.manifest.target == "host" and opened.has_vision
    unrecorded = {"bundle.json", ".seen.json", ".checked.json", "report.md"}
    assert set(opened.manifest.files) == {path.name for path in bundle.iterdir()} - unrecorded
    stages = opened.manifest.verification
    assert set(stages["vision"]) == {"image_embeds"} and "logits" in stages["decoder"]


@pytest.mark.parametrize("name", ["decoder.weights", "vision.onnx", "tokenizer.model", "embed_tokens.npy"])
def test_missing_and_cut_files_are_named(bundle_copy, name):
    os.truncate(bundle_copy / name, 100)
    with pytest.raises(BundleError, match=f"{name} has 100 bytes instead of.*build_engines.py --model.*--overwrite"):
        Bundle.open(bundle_copy)
    (bundle_copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing.*build_engines.py --model.*--overwrite"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("position", [0, 5000, -1])
def test_one_altered_byte_is_noticed(bundle_copy, position):
    Bundle.open(bundle_copy)  # seen once, so that only the change makes it look again
    path = bundle_copy / "decoder.weights"
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="decoder.weights was altered.*build_engines.py"):
        Bundle.open(bundle_copy)


def test_files_are_hashed_once(bundle_copy, monkeypatch):
    """A copy has new modification times: hashed at the first opening, trusted at the second."""
    import mobilevlm.engines.integrity as integrity

    hashed = []
    real = integrity._sha256
    monkeypatch.setattr(integrity, "_sha256", lambda path: hashed.append(path.name) or real(path))
    for path in bundle_copy.iterdir():
        os.utime(path)
    Bundle.open(bundle_copy)
    assert sorted(hashed) == sorted(Bundle.open(bundle_copy).manifest.files)


def test_directories_that_are_no_bundle(tmp_path, bundle_copy):
    with pytest.raises(BundleError, match="no engine bundle at.*build_engines.py"):
        Bundle.open(tmp_path / "nowhere")
    (bundle_copy / "bundle.json").rename(bundle_copy / "bundle.json.partial")
    with pytest.raises(BundleError, match="bundle.json is missing.*build_engines.py"):
        Bundle.open(bundle_copy)
    (bundle_copy / "bundle.json").write_text('{"format_version": 1, ')
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("change", [{"max_context": 4096}, {"files": {}}, {"precision": None}, {"model": 5}, {"x": 1}])
def test_an_edited_manifest_is_refused(bundle_copy, change):
    path = bundle_copy / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BundleError, match="it was edited.*build_engines.py"):
        Bundle.open(bundle_copy)


def test_a_copy_with_its_times_kept_is_hashed(bundle_copy, tmp_path):
    """What a bad medium does: another byte, the same size and time."""
    Bundle.open(bundle_copy)
    other = tmp_path / "other"
    shutil.copytree(bundle_copy, other, copy_function=shutil.copy2)
    data = bytearray((other / "decoder.weights").read_bytes())
    data[1000] ^= 1
    before = (other / "decoder.weights").stat()
    (other / "decoder.weights").write_bytes(data)
    os.utime(other / "decoder.weights", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(BundleError, match="decoder.weights was altered"):
        Bundle.open(other)


def test_what_appears_during_a_build_is_not_deleted(tmp_path, bundle_copy):
    with pytest.raises(BundleError, match="no engine bundle: it is left alone"), staged(tmp_path / "o", True):
        (tmp_path / "o").mkdir()
        (tmp_path / "o" / "thesis.tex").write_text("precious")
    assert (tmp_path / "o" / "thesis.tex").read_text() == "precious"
    with pytest.raises(BundleError, match="add --overwrite"), staged(bundle_copy, overwrite=False):
        pass
    (bundle_copy / "notes.txt").touch()
    with pytest.raises(BundleError, match="not the bundle's .notes.txt."), staged(bundle_copy, overwrite=True):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "o"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with staged(tmp_path / "link", overwrite=False) as directory:
        (directory / "file").touch()
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "file").exists()


def test_another_format_version_is_refused(bundle_copy):
    path = bundle_copy / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    with pytest.raises(BundleError, match="bundle format 99, this version reads 1.*build_engines.py"):
        Bundle.open(bundle_copy)


def test_a_bundle_for_another_target_is_refused_by_the_runtime(bundle_copy):
    from mobilevlm.runtime import Session

    path = bundle_copy / "bundle.json"
    changed = json.loads(path.read_text()) | {"target": "toaster"}
    path.write_text(json.dumps(changed | {"seal": seal_of(changed)}))
    with pytest.raises(BundleError, match="built for target toaster.*--target host"):
        Session(bundle_copy)


@pytest.mark.parametrize("name", PRESETS)
def test_model_descriptions_survive_the_manifest(name):
    config = PRESETS[name]
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_failed_build_leaves_the_old_bundle(bundle_copy):
    before = sorted(path.name for path in bundle_copy.parent.iterdir())
    with pytest.raises(RuntimeError), staged(bundle_copy, overwrite=True) as directory:
        (directory / "half").write_text("written")
        raise RuntimeError
    assert sorted(path.name for path in bundle_copy.parent.iterdir()) == before
    Bundle.open(bundle_copy)


def test_a_killed_build_is_cleared_by_the_next(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    leftover = tmp_path / f".out.building-{dead.pid}"
    leftover.mkdir()
    running = tmp_path / f".out.building-{os.getppid()}"
    running.mkdir()
    with staged(tmp_path / "out", overwrite=False) as directory:
        (directory / "file").touch()
    assert not leftover.exists() and running.exists() and (tmp_path / "out" / "file").exists()


def test_a_bundle_moved_aside_by_a_killed_build_comes_back(bundle_copy):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    bundle_copy.rename(bundle_copy.parent / f".bundle.old-{dead.pid}")
    with pytest.raises(RuntimeError), staged(bundle_copy, overwrite=True):
        raise RuntimeError
    Bundle.open(bundle_copy)


def test_output_directories_that_are_refused(bundle_copy, tmp_path):
    with pytest.raises(BundleError, match="exists: add --overwrite"):
        check_output(bundle_copy, overwrite=False)
    check_output(bundle_copy, overwrite=True)
    precious = tmp_path / "home"
    precious.mkdir()
    check_output(precious, overwrite=False)  # empty: nothing to lose
    (precious / "thesis.tex").touch()
    with pytest.raises(BundleError, match="no engine bundle: it is left alone"):
        check_output(precious, overwrite=True)
    shutil.rmtree(precious)
    precious.write_text("a file")
    with pytest.raises(BundleError, match="no engine bundle"):
        check_output(precious, overwrite=True)
    with pytest.raises(BundleError, match="cannot be written"):
        check_output(precious / "below", overwrite=False)
