"""chat.py as a person and as a script use it."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pexpect
import pytest
from PIL import Image

from tests.conftest import CHAT, ROOT, load_golden, run

PHOTO = ROOT / "assets" / "table.jpg"


def chat(bundle, *options, **keywords):
    return run(CHAT, "--engine", bundle, *options, **keywords)


def test_one_shot_prints_the_answer_alone(bundles, tmp_path):
    golden = load_golden("v1_ldpnet_112")
    Image.fromarray(golden.arrays["image_uint8"]).save(tmp_path / "picture.png")
    options = ["--image", tmp_path / "picture.png", "--prompt", golden.meta["user_prompt"], "--max-new-tokens", 16]
    done = chat(bundles["v1_ldpnet_112"], *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout == golden.meta["greedy_text"].strip() + "\n"
    assert all(word in done.stderr for word in ("image encode", "prefill", "TTFT", "tokens/s", "peak RSS"))


def test_json_holds_tokens_and_statistics(bundles, tmp_path):
    golden = load_golden("v2_ldpnetv2_336")
    Image.fromarray(golden.arrays["image_uint8"]).save(tmp_path / "picture.png")
    options = ["--image", tmp_path / "picture.png", "--prompt", golden.meta["user_prompt"], "--max-new-tokens", 16]
    done = chat(bundles["v2_ldpnetv2_336"], *options, "--json")
    answer = json.loads(done.stdout)
    assert answer["tokens"] == golden.arrays["greedy_tokens"].tolist() and answer["finish"] == "length"
    assert answer["answer"] == golden.meta["greedy_text"].strip()
    figures = answer["statistics"]
    assert figures["prompt_tokens"] == golden.arrays["inputs_embeds"].shape[1] and figures["new_tokens"] == 16
    assert figures["ttft_ms"] >= figures["prefill_ms"] + figures["image_encode_ms"] > 0


def test_a_json_schema_is_followed(demo_fp32, tmp_path):
    """On stdout the document alone, or nothing: a script may parse what it gets."""
    schema, asked = tmp_path / "schema.json", ["--image", PHOTO, "--prompt", "What color is the circle?"]
    properties = {"color": {"enum": ["red", "green", "blue"]}, "count": {"type": "integer", "minimum": 1, "maximum": 9}}
    schema.write_text(json.dumps({"type": "object", "properties": properties, "required": ["color", "count"]}))
    done = chat(demo_fp32, *asked, "--json-schema", schema)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["color"] in properties["color"]["enum"] and 1 <= document["count"] <= 9
    short = chat(demo_fp32, *asked, "--json-schema", schema, "--max-new-tokens", 5)
    assert short.returncode == 2 and short.stdout == "" and "give a larger --max-new-tokens" in short.stderr
    schema.write_text('{"type": "colour"}')
    refused = chat(demo_fp32, *asked, "--json-schema", schema)
    assert refused.returncode == 2 and "cannot be enforced: Invalid type: colour" in refused.stderr


def test_options_reach_the_model(bundle):
    """Every flag changes what is said, or how much."""
    question = ["--prompt", "Tell me a story.", "--max-new-tokens", 12, "--json"]

    def tokens(*options):
        done = chat(bundle, *question, *options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["tokens"]

    greedy = tokens()
    assert len(tokens("--max-new-tokens", 5)) == 5
    hot = ["--temperature", 3, "--seed", 1]
    assert tokens(*hot) == tokens(*hot) != greedy
    assert tokens("--temperature", 3, "--seed", 2) != tokens(*hot)
    assert tokens(*hot, "--top-k", 1) == greedy
    assert tokens(*hot, "--top-p", 1e-6) == greedy
    assert tokens(*hot, "--min-p", 1) == greedy
    assert len(set(tokens("--repetition-penalty", 100))) == 12
    assert tokens("--conv-mode", "llama_2") != greedy
    assert tokens("--image", PHOTO) != greedy
    assert tokens("--image", PHOTO, "--image", PHOTO) != tokens("--image", PHOTO)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--engine", "no/where", "--prompt", "Hi"], "no engine bundle at no/where"),
        (["--prompt", "Hi", "--image", "missing.jpg"], "missing.jpg does not exist"),
        (["--prompt", "  "], "--prompt is empty"),
        (["--json"], "--json needs --prompt"),
        (["--prompt", "Hi", "--top-p", "2"], "top_p is 2.0"),
        (["--prompt", "Hi", "--min-p", "2"], "min_p is 2.0"),
        (["--json-schema", "schema.json"], "--json-schema needs --prompt"),
        (["--prompt", "Hi", "--json-schema", "no/where.json"], "no/where.json is missing"),
        (["--prompt", "Hi", "--json-schema", "mkdocs.yml"], "mkdocs.yml cannot be read as JSON"),
        (["--prompt", "Hi", "--temperature", "-1"], "temperature is -1.0"),
        (["--prompt", "Hi", "--max-new-tokens", "0"], "max_new_tokens is 0"),
        (["--prompt", "Hi", "--conv-mode", "v9"], "invalid choice: 'v9'"),
        (["--prompt", "a " * 3000], "too many"),
        (["--prompt", b"caf\xe9"], "the question is not UTF-8"),
    ],
)
def test_mistakes_are_one_line_and_status_2(options, message, bundle):
    done = chat(bundle, *options)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def bad_pictures():
    """Name to (file name, how to write it, what the message says)."""

    def jpeg(path, cut=None):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)).save(path, "JPEG")
        if cut is not None:
            os.truncate(path, cut)

    return {
        "truncated": ("a.jpg", lambda path: jpeg(path, 3000), "cannot be read"),
        "empty": ("a.jpg", lambda path: jpeg(path, 0), "0 bytes"),
        "text": ("a.png", lambda path: path.write_text("hello"), "no image"),
        "huge": ("a.png", lambda path: Image.new("1", (20000, 20000)).save(path), "too large"),
        "directory": ("a.png", lambda path: path.mkdir(), "is a directory"),
    }


@pytest.mark.parametrize("kind", bad_pictures())
def test_bad_pictures_are_said(kind, bundle, tmp_path):
    name, write, message = bad_pictures()[kind]
    write(tmp_path / name)
    done = chat(bundle, "--image", tmp_path / name, "--prompt", "Hi")
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def odd_pictures():
    """Name to a function that writes a picture that is unusual and good."""
    colour = Image.fromarray(np.random.default_rng(1).integers(0, 255, (60, 80, 3), np.uint8))
    deep = Image.fromarray(np.linspace(0, 65535, 4800).reshape(60, 80).astype(np.uint16))
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "cmyk.jpg": lambda path: colour.convert("CMYK").save(path),
        "palette.png": lambda path: colour.convert("P").save(path, transparency=3),
        "alpha.png": lambda path: colour.convert("RGBA").save(path),
        "deep.png": lambda path: deep.save(path),
        "rotated.jpg": lambda path: colour.save(path, exif=turned),
        "animated.gif": lambda path: colour.save(path, save_all=True, append_images=[colour.rotate(90)]),
        "long.png": lambda path: Image.new("RGB", (20000, 20)).save(path),
    }


@pytest.mark.parametrize("name", odd_pictures())
def test_odd_pictures_are_answered(name, bundle, tmp_path):
    odd_pictures()[name](tmp_path / name)
    done = chat(bundle, "--image", tmp_path / name, "--prompt", "What is it?", "--max-new-tokens", 3)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_a_terminal_that_cannot_show_a_character(bundles, tmp_path):
    golden = load_golden("v1_ldpnet_112")
    Image.fromarray(golden.arrays["image_uint8"]).save(tmp_path / "picture.png")
    options = ["--image", tmp_path / "picture.png", "--prompt", golden.meta["user_prompt"], "--max-new-tokens", 16]
    done = chat(bundles["v1_ldpnet_112"], *options, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and done.stdout.strip() == golden.meta["greedy_text"].replace("\ufffd", "?")


def test_a_damaged_bundle_is_said(bundle_copy):
    (bundle_copy / "vision.weights").unlink()
    done = chat(bundle_copy, "--prompt", "Hi")
    assert done.returncode == 2 and "vision.weights is missing" in done.stderr and "build_engines.py" in done.stderr


def test_a_file_name_too_long_does_not_end_the_conversation(terminal):
    for name, message in (("x" * 1000, "too long"), ("~nobody_at_all/x", "names a user this machine does not have")):
        terminal.sendline(f"/image {name}")
        terminal.expect(message)
        terminal.expect("> ")
    terminal.sendline("/stats")
    terminal.expect("no answer yet")


def test_questions_from_a_pipe(bundle):
    done = chat(bundle, "--max-new-tokens", 4, input="Hello\n/stats\nAgain\n")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 2 and "TTFT" in done.stderr
    assert done.stdout.splitlines()[0] == chat(bundle, "--prompt", "Hello", "--max-new-tokens", 4).stdout.strip()


@pytest.fixture
def terminal(bundle):
    """A conversation at a real terminal."""
    arguments = [str(CHAT), "--engine", str(bundle), "--max-new-tokens", "6", "--max-pixels", "100000000"]
    child = pexpect.spawn(sys.executable, arguments, encoding="utf-8", timeout=60, dimensions=(40, 200))
    child.expect("> ")
    yield child
    child.close(force=True)


def test_conversation_commands(terminal):
    for line, answer in [
        ("/help", "show a picture"),
        ("/stats", "no answer yet"),
        (f"/image {PHOTO}", "table.jpg goes with the next question"),
        ("What is it?", "> "),
        ("/stats", r"image encode \d+ ms"),
        ("And now?", "> "),
        ("/stats", r"\d+ of them reused"),
        ("/reset", "new conversation"),
        ("/image", "needs a file name"),
    ]:
        terminal.sendline(line)
        terminal.expect(answer)
    terminal.sendline("/quit")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


def test_history_by_arrow_key(terminal):
    terminal.sendline("/stats")
    terminal.expect("no answer yet")
    terminal.expect("> ")
    terminal.send("\x1b[A\r")
    terminal.expect("no answer yet")


def test_ctrl_c_stops_the_answer_and_not_the_program(bundles):
    arguments = [str(CHAT), "--engine", str(bundles["v2_ldpnetv2_336"]), "--max-new-tokens", "100000"]
    child = pexpect.spawn(sys.executable, arguments, encoding="utf-8", timeout=60, dimensions=(40, 200))
    child.expect("> ")
    child.sendline("Tell me a very long story")
    child.expect("\r\n.")  # the first characters of an answer
    child.kill(signal.SIGINT)
    child.expect(r"\[stopped\]")
    child.expect("> ")
    child.kill(signal.SIGINT)
    child.expect("/quit or Ctrl-D leaves")
    child.sendline("/stats")
    child.expect("TTFT")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_ctrl_c_while_a_picture_is_read(terminal, tmp_path):
    """A picture that takes a second to read: Ctrl-C gives the prompt back."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9000, 9000, 3), np.uint8)).save(
        tmp_path / "big.png", compress_level=1
    )
    terminal.sendline(f"/image {tmp_path / 'big.png'}")
    terminal.expect("big.png\r\n")
    time.sleep(0.3)
    terminal.kill(signal.SIGINT)
    terminal.expect(r"\[stopped\]")
    terminal.expect("> ")
    terminal.sendline("/stats")
    terminal.expect("no answer yet")


def test_dropped_files_are_understood(terminal, tmp_path):
    name = tmp_path / "my photo.jpg"
    Image.new("RGB", (20, 20)).save(name)
    for form in (str(name), f"'{name}'", str(name).replace(" ", "\\ ")):
        terminal.sendline(f"/image {form}")
        terminal.expect("my photo.jpg goes with the next question")


def shell(command):
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)


def test_streams_that_end_early(bundle):
    """A reader that goes away, and streams that were closed: no traceback, no wrong status."""
    program = f"{sys.executable} {CHAT} --engine {bundle} --max-new-tokens 1500"
    done = shell(f"{program} --prompt Hello | head -c 3; exit ${{PIPESTATUS[0]}}")
    assert done.returncode in (0, 141) and "Traceback" not in done.stderr  # 0: all was written before head went away
    done = shell(f"{program} --prompt Hello --max-new-tokens 3 >&-")
    assert done.returncode == 0 and "Traceback" not in done.stderr
    done = shell(f"{program} <&-")
    assert done.returncode == 0 and "Traceback" not in done.stderr
    done = shell(f"printf 'caf\\xe9\\n' | {program}")
    assert done.returncode == 2 and done.stdout == "" and "line 1 of stdin is not UTF-8" in done.stderr
    done = shell(f"{program} --prompt Hello > /dev/full")
    assert done.returncode == 2 and "the disk is full" in done.stderr


def test_choices_are_printed_with_their_probabilities(demo_fp32):
    options = ("--image", ROOT / "assets" / "shapes.png", "--prompt", "What color is the circle?", "--choices")
    done = chat(demo_fp32, *options, "red, blue,green")
    assert done.returncode == 0, done.stderr
    *lines, answer = done.stdout.splitlines()
    probabilities = {line.split("  ", 1)[1]: float(line.split("  ", 1)[0]) for line in lines}
    assert list(probabilities) == ["red", "blue", "green"] and sum(probabilities.values()) == pytest.approx(1, abs=2e-4)
    assert answer == max(probabilities, key=probabilities.__getitem__)
    assert "prefill" in done.stderr and "choices" in done.stderr
    unsure = chat(demo_fp32, *options, "\N{LATIN CAPITAL LETTER Q}, Z", "--abstain", "1")
    assert unsure.returncode == 0 and unsure.stdout.endswith("no answer: no choice is likely enough\n")


@pytest.mark.parametrize(
    "options, message",
    [
        (["--choices", "Yes,No"], "--choices needs --prompt"),
        (["--prompt", "Is it?", "--abstain", "0.5"], "--abstain needs --choices"),
        (["--prompt", "Is it?", "--choices", "Yes,No", "--seed", "1"], "--choices samples nothing"),
        (["--prompt", "Is it?", "--choices", "Yes"], "two choices or more; there is one"),
        (["--prompt", "Is it?", "--choices", "Yes,,No"], "a choice is empty"),
        (["--prompt", "Is it?", "--choices", b"Yes,\xff"], "is not UTF-8 text"),
    ],
)
def test_wrong_choices_are_refused_in_one_line(bundle, options, message):
    done = chat(bundle, *options)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
