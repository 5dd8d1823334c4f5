"""The doctor on copied trees of two boards: every finding, every remedy, and that it changes nothing unasked."""

import json
import shutil

import pytest

from mobilevlm.errors import UserError
from mobilevlm.jetson import doctor
from mobilevlm.jetson.board import read_board
from mobilevlm.jetson.findings import Finding
from tests.conftest import ROOT, run
from tests.jetson.trees import SWAPS, distribution, in_order, link, out_of_the_box, packages, write

DOCTOR = ROOT / "jetson" / "doctor.py"


def findings(root) -> dict[str, Finding]:
    return {finding.name: finding for finding in doctor.examine(doctor.look_at(root, read_board(root)))}


def test_out_of_the_box(tmp_path):
    found = findings(out_of_the_box(tmp_path))
    assert {name: finding.status for name, finding in found.items()} == {
        "jetpack": "ok",
        "python": "ok",
        "tensorrt": "problem",
        "cuda-python": "problem",
        "nvmap": "advice",
        "power": "advice",
        "clocks": "advice",
        "bandwidth": "advice",
        "memory": "advice",
        "cma": "advice",
        "swap": "advice",
        "headless": "advice",
        "disk": "unknown",
    }
    assert found["jetpack"].text == "L4T 36.4.7, JetPack 6.2.1"
    assert "python3-libnvinfer" in found["tensorrt"].remedy and "jetson/setup.sh" in found["tensorrt"].remedy
    assert "cuda-bindings>=12.6,<13" in found["cuda-python"].remedy
    assert "error 12" in found["nvmap"].text and "restart" in found["nvmap"].remedy
    assert found["cma"].text.startswith("CmaTotal 256 MiB, CmaFree 147 MiB: builds failed with so little on L4T 36.4.7")
    assert found["power"].text == "mode 15W; the board has 0 15W, 1 25W, 2 MAXN_SUPER, 3 7W"
    assert found["power"].commands == (("nvpmodel", "-m", "2"),)
    assert "GPU 306 of 612 MHz; EMC is read as root only" in found["clocks"].text
    assert "68.3 of 102.4 GB/s" in found["bandwidth"].text
    # 3 blocks of 4 MiB are free, and no larger ones.
    assert "3.0 GiB available; largest free blocks (lfb) 3 x 4 MiB" in found["memory"].text
    assert found["memory"].commands[-1] == ("sysctl", "-w", "vm.compact_memory=1")
    assert "zram0 0.6 GiB" in found["swap"].text and ("mkswap", "/swapfile") in found["swap"].commands
    assert ("systemctl", "disable", "--now", "nvzramconfig") in found["swap"].commands
    assert found["headless"].only_by_name and "865 MB" in found["headless"].text


def test_in_order(tmp_path):
    found = findings(in_order(tmp_path))
    assert {finding.status for finding in found.values()} <= {"ok", "unknown"}
    assert [name for name, finding in found.items() if finding.status == "unknown"] == ["nvmap", "disk"]
    assert "nothing is reported of large allocations on L4T 39.2.0" in found["nvmap"].text
    assert found["cma"].text.startswith("CmaTotal 256 MiB, CmaFree 248 MiB; on L4T 39.2.1 TensorRT-Edge-LLM built")
    assert not any(finding.remedy or finding.commands for finding in found.values())
    assert found["tensorrt"].text == "TensorRT 10.16.2.10, library 10.16.2.10-1+cuda13.2"
    assert "204.7 GB/s" in found["bandwidth"].text


def breaks_release(root):
    write(root, "etc/nv_tegra_release", "# R36 (release), REVISION: 3.0, GCID: 1")


def breaks_python(root):
    (root / "usr/bin/python3").unlink()
    link(root, "usr/bin/python3", "python3.11")


def breaks_module(root):
    shutil.rmtree(next((root / "usr/lib/python3.12/dist-packages").glob("tensorrt*")))


def breaks_library(root):
    packages(root, libnvinfer10="10.3.0.30-1+cuda12.5")


def breaks_version(root):
    shutil.rmtree(next((root / "usr/lib/python3.12/dist-packages").glob("tensorrt*")))
    packages(root, nvidia_l4t_core="39.2.0")
    distribution(root, "3.12", "tensorrt", "11.4.1.5")


def breaks_bindings(root):
    shutil.rmtree(next((root / "usr/lib/python3.12/dist-packages").glob("cuda*")))
    distribution(root, "3.12", "cuda-bindings", "12.9.10")


def breaks_mode(root):
    write(root, "var/lib/nvpmodel/status", "pmode:0001")


def breaks_memory_clock(root):
    write(root, "sys/kernel/debug/bpmp/debug/clk/emc/rate", 2133000000)
    write(root, "sys/kernel/debug/bpmp/debug/clk/emc/max_rate", 2133000000)


def breaks_swap(root):
    write(root, "proc/swaps", SWAPS + "/dev/zram0 partition\t635720\t\t0\t\t5")


BREAKS = {
    "jetpack": (breaks_release, "problem", "flash a release"),
    "python": (breaks_python, "problem", "Python 3.11; TensorRT's module of JetPack 7.2 is for 3.12"),
    "tensorrt": (breaks_module, "problem", "the library 10.16.2.10-1+cuda13.2 is installed, its Python module is not"),
    "tensorrt ": (breaks_library, "problem", "the module and the library differ"),
    "tensorrt  ": (breaks_version, "advice", "JetPack 7.2 brings 10.16"),
    "cuda-python": (breaks_bindings, "problem", "cuda-bindings 12.9.10, CUDA here is 13.2"),
    "power": (breaks_mode, "advice", "mode MODE_15W"),
    "bandwidth": (breaks_memory_clock, "advice", "136.5 of 204.8 GB/s"),
    "swap": (breaks_swap, "advice", "/dev/zram0 0.6 GiB"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_check_can_fail(name, tmp_path):
    break_it, status, text = BREAKS[name]
    break_it(in_order(tmp_path))
    found = findings(tmp_path)[name.strip()]
    assert found.status == status and text in f"{found.text} {found.remedy}" and found.remedy


def test_a_release_newer_than_the_table(tmp_path):
    write(in_order(tmp_path), "etc/nv_tegra_release", "# R39 (release), REVISION: 5.0, GCID: 1")
    found = findings(tmp_path)["jetpack"]
    assert found.status == "advice" and "39.5.0" in found.text and "jetson/releases.py" in found.remedy


def test_a_module_that_cannot_be_imported(tmp_path):
    """An -igpu container on JetPack 7.2: all is installed, and the import fails for want of a library."""
    system = doctor.look_at(in_order(tmp_path), read_board(tmp_path))
    why = "ImportError: libnvdla_compiler.so: cannot open shared object file"
    broken = type(system)(**(vars(system) | {"import_error": why}))
    found = {finding.name: finding for finding in doctor.examine(broken)}["tensorrt"]
    assert found.status == "problem" and why in found.text


def test_it_changes_nothing_in_the_tree(tmp_path):
    def listing(root):
        return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}

    before = listing(out_of_the_box(tmp_path))
    findings(tmp_path)
    assert listing(tmp_path) == before


def test_the_command(tmp_path):
    done = run(DOCTOR, "--root", out_of_the_box(tmp_path))
    assert done.returncode == 1 and done.stderr == ""
    assert "problem  tensorrt: it is not installed\n         -> run `bash jetson/setup.sh`" in done.stdout


def test_json(tmp_path):
    done = run(DOCTOR, "--root", in_order(tmp_path), "--json")
    assert done.returncode == 0, done.stdout
    document = json.loads(done.stdout)
    assert document["board"]["power_mode"] == "MAXN" and document["board"]["gpu_clock"]["lowest"] == 1300
    assert [finding["name"] for finding in document["findings"]][:2] == ["jetpack", "python"]


def test_off_a_jetson(tmp_path):
    done = run(DOCTOR, "--root", tmp_path)
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert "is no Jetson" in done.stderr


@pytest.mark.skipif(read_board().is_jetson, reason="this is a Jetson")
def test_this_machine_is_none():
    done = run(DOCTOR)
    assert done.returncode == 2 and "this machine is no Jetson" in done.stderr and "--root" in done.stderr


def test_help_has_examples():
    assert "python jetson/doctor.py --apply power clocks" in run(DOCTOR, "--help").stdout


def test_apply_prints_before_it_runs(tmp_path, capsys, monkeypatch):
    ran, printed = [], []
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 0)

    def runs(command):
        printed.append(capsys.readouterr().out)
        ran.append(list(command))
        return 0

    doctor.apply(list(findings(out_of_the_box(tmp_path)).values()), ["power", "clocks"], runs)
    assert ran == [["nvpmodel", "-m", "2"], ["jetson_clocks"]]
    assert printed == ["+ nvpmodel -m 2\n", "+ jetson_clocks\n"]


def test_apply_without_names_leaves_the_desktop(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 1000)
    doctor.apply(list(findings(out_of_the_box(tmp_path)).values()), [], lambda command: ran.append(command) or 0)
    words = [" ".join(command) for command in ran]
    assert all(command.startswith("sudo ") for command in words)
    assert {"sudo nvpmodel -m 2", "sudo mkswap /swapfile", "sudo sysctl -w vm.drop_caches=3"} <= set(words)
    assert not any("multi-user" in command or "cma=" in command for command in words)
    doctor.apply(list(findings(tmp_path).values()), ["headless"], lambda command: ran.append(command) or 0)
    assert ran[-1] == ["sudo", "systemctl", "set-default", "multi-user.target"]


@pytest.mark.parametrize(
    ("names", "message"),
    [(["powr"], "there is no finding 'powr': choose from jetpack"), (["jetpack"], "nothing to run for jetpack")],
)
def test_apply_refuses(names, message, tmp_path):
    with pytest.raises(UserError, match=message):
        doctor.apply(list(findings(out_of_the_box(tmp_path)).values()), names, lambda command: pytest.fail("ran"))


def test_a_command_that_fails_is_the_last(tmp_path):
    ran = []
    with pytest.raises(UserError, match="failed with exit status 3"):
        doctor.apply(list(findings(out_of_the_box(tmp_path)).values()), [], lambda command: ran.append(command) or 3)
    assert len(ran) == 1


def test_a_copy_is_not_mended(tmp_path):
    done = run(DOCTOR, "--root", out_of_the_box(tmp_path), "--apply")
    assert done.returncode == 2 and "leave one of them out" in done.stderr
