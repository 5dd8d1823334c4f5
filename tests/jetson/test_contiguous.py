"""The pool of contiguous memory: what the doctor says of it by release, and the change of the boot loader's file."""

import os
import shlex
import subprocess
import sys

import pytest

from mobilevlm import atomic_file as whole_file
from mobilevlm.jetson import doctor, extlinux
from mobilevlm.jetson.board import read_board
from mobilevlm.jetson.contiguous import RECOMMENDED_BYTES, head_request, parse_size, read_contiguous
from mobilevlm.jetson.extlinux import ExtlinuxError, change_file, get_parameter, set_parameter
from mobilevlm.jetson.findings import Finding
from mobilevlm.jetson.roofline import PAPER
from mobilevlm.presets import PRESETS
from tests.conftest import ROOT, run
from tests.jetson.trees import FILES, boot, in_order, jetpack_6_2_2, meminfo, out_of_the_box, write

EXTLINUX = ROOT / "jetson" / "extlinux.py"
CONF = (FILES / "extlinux_36.conf").read_bytes()


def finding(root, name="cma") -> Finding:
    return {one.name: one for one in doctor.examine(doctor.look_at(root, read_board(root)))}[name]


def test_jetpack_6_2_2_is_not_in_order(tmp_path):
    root = jetpack_6_2_2(tmp_path)
    assert read_board(root).l4t == "36.5.0" and finding(root, "jetpack").text == "L4T 36.5.0, JetPack 6.2.2"
    nvmap, cma = finding(root, "nvmap"), finding(root)
    assert nvmap.status == "advice" and "36.5.0" in nvmap.text and "https://" in nvmap.text
    assert cma.status == "advice" and "CmaTotal 256 MiB" in cma.text and "--apply cma" in cma.remedy
    assert cma.only_by_name and cma.commands == ((sys.executable, "-B", str(EXTLINUX), "cma=950M"),)


@pytest.mark.parametrize(
    ("release", "nvmap", "cma"),
    [
        ("36 4.3", "ok", "ok"),
        ("36 4.4", "advice", "unknown"),
        ("36 4.7", "advice", "advice"),
        ("36 5.0", "advice", "advice"),
        ("36 5.2", "unknown", "unknown"),
        ("39 2.0", "unknown", "ok"),
        ("39 2.1", "advice", "ok"),
        ("39 5.0", "unknown", "unknown"),
    ],
)
def test_releases(release, nvmap, cma, tmp_path):
    """What is reported of each; of the others nothing is claimed."""
    line, revision = release.split()
    write(out_of_the_box(tmp_path), "etc/nv_tegra_release", f"# R{line} (release), REVISION: {revision}, GCID: 1")
    assert (finding(tmp_path, "nvmap").status, finding(tmp_path).status) == (nvmap, cma)
    assert finding(tmp_path, "jetpack").status == ("advice" if release == "39 5.0" else "ok")


def test_from_the_change_to_the_next_start(tmp_path):
    root = jetpack_6_2_2(tmp_path)
    boot(root, configured="cma=950M")
    assert finding(root).status == "advice" and "cma=950M, which counts from the next start" in finding(root).text
    assert "sudo reboot" in finding(root).remedy and not finding(root).commands
    boot(root, started="cma=950M", configured="cma=950M")
    meminfo(root, "orin_nano_36", CmaTotal=983040, CmaFree=900000)
    assert finding(root).status == "ok" and "CmaTotal 960 MiB" in finding(root).text and not finding(root).remedy


def test_a_pool_that_found_no_place(tmp_path):
    """More than fits below 4 GiB, on any release: the kernel starts without one."""
    root = in_order(tmp_path)
    boot(root, started="cma=1G", configured="cma=1G")
    meminfo(root, "agx_orin_39", CmaTotal=0, CmaFree=0)
    assert finding(root).status == "problem" and "started with cma=1G" in finding(root).text
    assert finding(root).commands[0][-1] == "cma=950M"


def test_a_kernel_without_a_pool_is_not_judged(tmp_path):
    write(out_of_the_box(tmp_path), "proc/meminfo", "MemTotal:        7802880 kB")
    assert finding(tmp_path).status == "unknown"


@pytest.mark.parametrize("break_it", ["signed", "missing", "link", "odd"])
def test_a_file_that_cannot_be_changed_has_no_command(break_it, tmp_path):
    path = jetpack_6_2_2(tmp_path) / "boot/extlinux/extlinux.conf"
    if break_it == "signed":
        path.with_name("extlinux.conf.sig").write_bytes(b"\x30")
    elif break_it == "odd":
        path.write_text("TIMEOUT 30\n")
    else:
        path.rename(path.with_name("other"))
        if break_it == "link":
            path.symlink_to("other")
    reason = {"signed": "it is signed", "missing": "it is not there", "link": "it is a link", "odd": "has no LABEL"}
    assert finding(tmp_path).status == "advice" and not finding(tmp_path).commands
    assert reason[break_it] in finding(tmp_path).remedy and "cma=950M" in finding(tmp_path).remedy


def test_sizes():
    sizes = {text: parse_size(text) for text in ("950M", "950m", "1G", "2G@0x100000000", "262144K", "4096", "x", None)}
    assert list(sizes.values()) == [950 << 20, 950 << 20, 1 << 30, 2 << 30, 256 << 20, 4096, 0, 0]
    assert RECOMMENDED_BYTES == parse_size("950M") < 983040 * 1024


@pytest.mark.parametrize(
    ("model", "megabytes"), [("mobilevlm_v2_1.7b", 197), ("mobilevlm_v2_3b", 246), ("mobilevlm_v2_7b", 393)]
)
def test_what_heads_ask_for(model, megabytes):
    assert round(head_request(PRESETS[model], PAPER["int4"]) / 1e6) == megabytes
    assert head_request(PRESETS[model], PAPER["fp32"]) == 2 * head_request(PRESETS[model], PAPER["fp16"])


def test_the_head_of_the_report():
    """622,329,856 bytes were named in its log: vocabulary x width in float16."""
    reported = PRESETS["mobilevlm_v2_1.7b"].to_dict() | {"vocab_size": 151936}
    request = head_request(type(PRESETS["mobilevlm_v2_1.7b"]).from_dict(reported), PAPER["fp16"])
    assert 622_329_856 <= request <= 1.5 * 622_329_856 + 1


# ---- the file


def test_every_other_byte_is_kept():
    after = set_parameter(CONF, "cma", "950M")
    assert after == CONF.replace(b"nv-auto-config \n", b"nv-auto-config cma=950M \n") and after != CONF
    assert set_parameter(after, "cma", "950M") == after and get_parameter(after, "cma") == "950M"
    assert get_parameter(CONF, "cma") is None and get_parameter(after, "ma") is None


LABELS = b"""TIMEOUT 30\r
DEFAULT JetsonIO\r
LABEL primary\r
\tAPPEND ${cbootargs} root=/dev/a cma=64M\r
\r
LABEL JetsonIO\r
  APPEND ${cbootargs} root=/dev/a hugetlb_cma=1G cma=512M quiet\t \r
  LINUX /boot/Image\r
LABEL last\r
  APPEND x"""


def test_the_default_among_several_labels():
    after = set_parameter(LABELS, "cma", "950M")
    assert after == LABELS.replace(b"cma=512M quiet", b"cma=950M quiet")
    first = LABELS.replace(b"DEFAULT JetsonIO\r\n", b"")  # the loader takes the first
    assert set_parameter(first, "cma", "950M") == first.replace(b"cma=64M", b"cma=950M")
    last = LABELS.replace(b"DEFAULT JetsonIO", b"DEFAULT last")  # its line ends with the file
    assert set_parameter(last, "cma", "950M") == last + b" cma=950M"
    bare = b"LABEL a\n\tAPPEND\n"
    assert set_parameter(bare, "cma", "950M") == b"LABEL a\n\tAPPEND cma=950M\n"


REFUSED = {
    "no label": (b"TIMEOUT 30\n", "it has no LABEL"),
    "small letters": (CONF.replace(b"LABEL primary", b"label primary"), "it has no LABEL"),
    "no such label": (CONF.replace(b"DEFAULT primary", b"DEFAULT other"), "0 labels are named other"),
    "twice": (CONF + CONF[CONF.index(b"LABEL") :], "2 labels are named primary"),
    "two defaults": (b"DEFAULT other\n" + CONF, "several DEFAULT lines: other, primary"),
    "no arguments": (CONF.replace(b"      APPEND", b"     #APPEND"), "label primary has 0 APPEND lines"),
    "two lines": (CONF.replace(b"      LINUX", b"      APPEND x\n      LINUX"), "label primary has 2 APPEND lines"),
    "two values": (CONF.replace(b" rw ", b" cma=1M cma=2M "), "has cma= 2 times"),
    "a place": (CONF.replace(b" rw ", b" cma=2G@0x100000000 "), "cma=2G@0x100000000, which is more than a value"),
    "a comment": (CONF.replace(b" rw ", b" rw # "), "has a '#'"),
    "quotes": (CONF.replace(b" rw ", b' dyndbg="file a +p" '), "has a '\"'"),
    "other text": (CONF.decode().encode("utf-16"), "not plain text"),
    "many": (CONF + b"".join(b"LABEL %d\n" % n for n in range(10)), "11 labels, of which the loader reads 10"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_left_alone(name, tmp_path):
    content, message = REFUSED[name]
    path = tmp_path / "extlinux.conf"
    path.write_bytes(content)
    with pytest.raises(ExtlinuxError, match="is left as it is") as error:
        change_file(path, "cma", "950M")
    assert message in str(error.value) and len(str(error.value).splitlines()) == 1
    assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]


def test_the_command_and_its_way_back(tmp_path):
    path = boot(tmp_path)
    path.chmod(0o640)
    done = run(EXTLINUX, "cma=950M", "--file", path)
    assert done.returncode == 0 and "sudo reboot" in done.stdout, done.stderr
    changed = path.read_bytes()
    assert changed == set_parameter(CONF, "cma", "950M") and path.stat().st_mode & 0o777 == 0o640
    again = run(EXTLINUX, "cma=950M", "--file", path)
    assert again.returncode == 0 and "nothing was changed" in again.stdout and path.read_bytes() == changed
    assert sorted(one.name for one in path.parent.iterdir()) == ["extlinux.conf", "extlinux.conf.before-cma"]
    way_back = shlex.split(done.stdout.splitlines()[-1].partition("way back: ")[2])
    assert way_back[0] == "sudo"
    subprocess.run(way_back[1:], check=True)
    assert path.read_bytes() == CONF and path.stat().st_mode & 0o777 == 0o640
    assert list(path.parent.iterdir()) == [path]


def test_no_backup_is_written_over(tmp_path):
    path = boot(tmp_path)
    first = change_file(path, "cma", "512M")
    second = change_file(path, "cma", "950M")
    assert first != second and first.read_bytes() == CONF and get_parameter(second.read_bytes(), "cma") == "512M"


def test_other_words_are_refused(tmp_path):
    for words, message in [(["cma"], "cma is not NAME=VALUE"), (["cma=1M x=2"], "not NAME=VALUE")]:
        done = run(EXTLINUX, *words, "--file", boot(tmp_path))
        assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1
    missing = run(EXTLINUX, "cma=950M", "--file", tmp_path / "none")
    assert missing.returncode == 2 and "is left as it is: it is not there" in missing.stderr


@pytest.mark.parametrize("killed_at", range(12))
def test_killed_at_any_moment(killed_at, tmp_path, monkeypatch):
    """At each step that touches the disk: the file is the old one or the new one, and the command works again."""

    class Killed(BaseException):
        pass

    steps = []

    def counted(name, call):
        def step(*words, **options):
            steps.append(name)
            if len(steps) == killed_at + 1:
                raise Killed
            return call(*words, **options)

        return step

    path = boot(tmp_path)
    with monkeypatch.context() as patch:
        for name in ("fsync", "fchmod", "fchown"):
            patch.setattr(whole_file.os, name, counted(name, getattr(os, name)))
        patch.setattr(type(path), "replace", counted("replace", type(path).replace))
        try:
            change_file(path, "cma", "950M")
        except Killed:
            assert len(steps) == killed_at + 1
        else:
            # Content and folder of each of the two files are on the disk, the content before it gets its name.
            assert steps == 2 * ["fchown", "fchmod", "fsync", "replace", "fsync"] and killed_at >= len(steps)
    after = set_parameter(CONF, "cma", "950M")
    assert path.read_bytes() in (CONF, after)
    change_file(path, "cma", "950M")
    assert path.read_bytes() == after
    assert (tmp_path / "boot/extlinux/extlinux.conf.before-cma").read_bytes() == CONF
    assert read_contiguous(tmp_path).configured == "950M"


def test_apply_cma_changes_the_file(tmp_path, monkeypatch, capfd):
    """`--apply cma` runs the command that the finding has; here on a tree's file."""
    root = jetpack_6_2_2(tmp_path)
    path = root / "boot/extlinux/extlinux.conf"
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 0)

    def call(command):
        return subprocess.call([*command, "--file", str(path)])

    doctor.apply(doctor.examine(doctor.look_at(root, read_board(root))), ["cma"], call)
    assert get_parameter(path.read_bytes(), "cma") == "950M" and "way back: sudo mv" in capfd.readouterr().out
    assert finding(root).remedy.startswith("sudo reboot")
    assert extlinux.FILE == "/boot/extlinux/extlinux.conf"
