"""Nothing leaves the device: no command opens a socket, looks up a name or writes where it was not asked to."""

from __future__ import annotations

import onnxruntime
import pytest

from mobilevlm.commands import CONSOLE_SCRIPTS
from tests.conftest import CHAT, ROOT
from tests.faults.jobs import jobs, prepare
from tests.faults.network import findings
from tests.faults.traced import Room, Traced, can_trace

pytestmark = pytest.mark.skipif(not can_trace(), reason="strace is missing, or may not trace here")
HELP = """
import sys
from importlib import import_module
from mobilevlm.commands import CONSOLE_SCRIPTS
for script, name in CONSOLE_SCRIPTS.items():
    sys.argv = [name, "--help"]
    try:
        import_module("mobilevlm." + script.removesuffix(".py").replace("/", ".")).main()
    except SystemExit as ended:
        assert not ended.code, (script, ended.code)
"""
PACKAGES = """
import mobilevlm.runtime, onnxruntime, transformers, huggingface_hub, matplotlib.font_manager
from mobilevlm.engines.ort.openvino_package import openvino
openvino.Core().available_devices
"""


@pytest.fixture
def room(tmp_path) -> Room:
    return Room(tmp_path)


def require_quiet(done: Traced) -> None:
    assert done.returncode == 0, done.said
    assert not findings(done), findings(done)


def test_the_trace_sees_what_it_should_find(room):
    """ONNX Runtime without our switch, a name looked up, a file in the home: or the tests below prove nothing."""
    loud = room.run(
        "-c", "import onnxruntime, socket\ntry: socket.gethostbyname('example.invalid')\nexcept OSError: pass"
    )
    assert loud.lookups and loud.returncode == 0
    if onnxruntime.__version__.startswith("1.31"):  # one of those that send
        assert any(".onnxruntime" in path for path in loud.outside)
    told = room.run("-c", "open('here', 'w'); open('../home/there', 'w')\nimport os; os.mkdir('../elsewhere')")
    assert told.outside == {str(room.home / "there"), str(room.root / "elsewhere")}
    asked = room.run(
        "-c", "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('192.0.2.1', 53))"
    )
    assert asked.lookups and asked.peers == {"192.0.2.1:53"}
    here = room.run("-c", "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0))")
    assert here.loopback == {"127.0.0.1:0"} and not findings(here)


def test_the_help_of_every_command_leaves_nothing(room):
    require_quiet(room.run("-c", HELP))


def test_telemetry_of_the_packages_is_off(room):
    """Kind: telemetry of dependencies.

    Public: OHF-Voice/wyoming-piper issue 64 (ONNX Runtime), blakeblackshear/frigate pull request 18015 (OpenVINO).
    """
    require_quiet(room.run("-c", PACKAGES))


def test_an_answer_leaves_nothing(room, demo_fp32):
    picture = ROOT / "assets" / "shapes.png"
    asked = room.run(
        CHAT, "--engine", demo_fp32, "--image", picture, "--prompt", "What color is the circle?", "--no-check"
    )
    require_quiet(asked)
    assert "The circle is red." in asked.said


def test_openvino_is_imported_in_one_place():
    """A second `import openvino` would bring its telemetry back."""
    places = [
        path.relative_to(ROOT)
        for folder in ("mobilevlm", "engines", "export", "runtime", "eval", "train", "jetson")
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text().splitlines()
        if line.strip().startswith(("import openvino", "from openvino"))
    ]
    assert {str(path) for path in places} == {"engines/ort/openvino.py", "engines/ort/openvino_package.py"}
    text = (ROOT / "engines" / "ort" / "openvino.py").read_text()
    assert "if TYPE_CHECKING:\n    import openvino\n" in text and text.count("    import openvino\n") == 1


def test_every_command_has_a_job():
    assert {job.script for job in jobs()} == set(CONSOLE_SCRIPTS)


@pytest.mark.slow
def test_real_work_of_every_command_leaves_nothing(room):
    """A small job of each; `python -m tests.faults.network` prints the same as a table."""
    prepare(room)
    for job in jobs():
        done = job.traced(room)
        assert done.returncode == job.status, f"{job.script}: {done.said}"
        assert not findings(done), (job.script, findings(done))
