"""Signed bundles: what is signed opens, anything else is refused; minisign itself is the judge where there is one."""

import json
import shutil
import subprocess

import pytest

from mobilevlm.engines.bundle import Bundle, BundleError, amend_manifest, seal_of
from mobilevlm.engines.minisign_key import PASSWORD_VARIABLE, read_secret_key
from mobilevlm.engines.signature import SignatureError, read_public_key
from mobilevlm.engines.stages import SIGNATURE_FILE
from mobilevlm.engines.trust import sign_bundle
from mobilevlm.runtime import Session
from tests.conftest import CHAT, GOLDEN, ROOT, build_here, run
from tests.faults.signing import KEY_FILES

pytest.importorskip("cryptography")
needs_minisign = pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")


@pytest.fixture
def keys(tmp_path):
    """Folder with the files of both keys."""
    for name, text in KEY_FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def signed(bundle_copy, keys):
    """A bundle that our key signed."""
    sign_bundle(bundle_copy, read_secret_key(keys / "ours.key"))
    return bundle_copy


def test_a_signed_bundle_opens_with_its_key_and_answers(signed, keys):
    with Session(signed, trust=keys / "ours.pub") as session:
        assert session.bundle.manifest == Bundle.open(signed, trust=[keys / "other.pub", keys / "ours.pub"]).manifest


@needs_minisign
def test_minisign_agrees_in_both_directions(signed, keys):
    files = ["-m", str(signed / "bundle.json"), "-x", str(signed / SIGNATURE_FILE)]
    subprocess.run(["minisign", "-V", *files, "-p", keys / "ours.pub"], check=True, capture_output=True)
    assert subprocess.run(["minisign", "-V", *files, "-p", keys / "other.pub"], capture_output=True).returncode
    for options in ([], ["-l"]):  # hashed and, as of older versions, not
        (signed / SIGNATURE_FILE).unlink()
        subprocess.run(["minisign", "-S", *options, *files, "-s", keys / "other.key"], check=True, capture_output=True)
        Bundle.open(signed, trust=keys / "other.pub")
        with pytest.raises(BundleError, match="signed with key .* is trusted"):
            Bundle.open(signed, trust=keys / "ours.pub")


@needs_minisign
@pytest.mark.slow
def test_a_key_with_a_password(tmp_path, bundle_copy, monkeypatch):
    made = ["minisign", "-G", "-p", tmp_path / "p.pub", "-s", tmp_path / "p.key"]
    subprocess.run(made, input="secret\nsecret\n", text=True, check=True, capture_output=True)
    monkeypatch.setenv(PASSWORD_VARIABLE, "wrong")
    with pytest.raises(SignatureError, match="password of .* is wrong"):
        read_secret_key(tmp_path / "p.key")
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")
    sign_bundle(bundle_copy, read_secret_key(tmp_path / "p.key"))
    Bundle.open(bundle_copy, trust=tmp_path / "p.pub")


def test_a_build_is_signed_when_it_is_asked_for(keys):
    model = GOLDEN / "v1_ldpnet_112" / "ckpt_safetensors"
    out = build_here("--model", model, "--sign", keys / "ours.key", out=keys / "built")
    Bundle.open(out, trust=keys / "ours.pub")
    with pytest.raises(SignatureError, match="secret key"):  # before any work is done
        build_here("--model", model, "--sign", keys / "ours.pub", out=keys / "never")


def test_unsigned_and_altered_bundles_are_refused(signed, keys):
    ours, manifest = keys / "ours.pub", signed / "bundle.json"
    signature = (signed / SIGNATURE_FILE).read_text()
    lines = signature.splitlines()
    for damaged in ("", "x", "\n".join(lines[:2]), signature.replace("timestamp", "timestomp"), "\n".join(lines[::-1])):
        (signed / SIGNATURE_FILE).write_text(damaged)
        with pytest.raises(BundleError, match=r"bundle\.json is not trusted: "):
            Bundle.open(signed, trust=ours)
    (signed / SIGNATURE_FILE).unlink()
    with pytest.raises(BundleError, match="it is not signed"):
        Bundle.open(signed, trust=ours)
    Bundle.open(signed)
    (signed / SIGNATURE_FILE).write_text(signature)
    changed = json.loads(manifest.read_text()) | {"name": "another"}
    manifest.write_text(json.dumps(changed | {"seal": seal_of(changed)}))
    with pytest.raises(BundleError, match="one of the two was altered"):
        Bundle.open(signed, trust=ours)


def test_what_was_seen_before_is_hashed_again(signed, keys):
    """`.seen.json` is not signed: it could say that an altered file was seen."""
    weights = signed / "decoder.weights"
    data = bytearray(weights.read_bytes())
    data[1000] ^= 1
    weights.write_bytes(data)
    entry = weights.stat()
    seen = {name: [0, 0, 0] for name in json.loads((signed / "bundle.json").read_text())["files"]}
    for name in seen:
        found = (signed / name).stat()
        seen[name] = [found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    (signed / ".seen.json").write_text(json.dumps(seen))
    assert weights.stat().st_mtime_ns == entry.st_mtime_ns
    Bundle.open(signed)  # believed, without a key
    with pytest.raises(BundleError, match="decoder.weights was altered"):
        Bundle.open(signed, trust=keys / "ours.pub")


def test_a_file_that_was_put_beside_a_signed_bundle_is_not_read(signed, keys):
    (signed / "added_tokens.json").write_text('{"<evil>": 767}')
    with pytest.raises(BundleError, match="added_tokens.json is there, but not in bundle.json"):
        Bundle.open(signed, trust=keys / "ours.pub")


def test_a_changed_bundle_is_not_signed_any_more(signed, keys):
    amend_manifest(signed, Bundle.open(signed).manifest, [], choices={"temperature": 1.5, "abstain": 0, "fitted_on": 1})
    assert not (signed / SIGNATURE_FILE).exists()
    sign_bundle(signed, read_secret_key(keys / "ours.key"))
    Bundle.open(signed, trust=keys / "ours.pub")


@pytest.mark.parametrize("content", ["", "x\ny\n", "untrusted comment: x\nAAAA\n", "\u00e9" * 9, "\0" * 200])
def test_keys_that_are_none(content, tmp_path):
    (tmp_path / "key").write_text(content)
    for read in (read_public_key, read_secret_key):
        with pytest.raises(SignatureError, match="key"):
            read(tmp_path / "key")
    with pytest.raises(SignatureError, match="cannot be read"):
        read_public_key(tmp_path / "nowhere")


def test_the_command_line_says_who_is_trusted(signed, keys):
    words = ["--image", ROOT / "assets" / "shapes.png", "--prompt", "What color?", "--max-new-tokens", "2"]
    done = run(CHAT, "--engine", signed, *words, "--trust", keys / "other.pub")
    assert done.returncode == 2 and "is trusted" in done.stderr and "Traceback" not in done.stderr
    done = run(CHAT, "--engine", signed, *words, "--trust", keys / "ours.pub")
    assert done.returncode == 0, done.stderr
