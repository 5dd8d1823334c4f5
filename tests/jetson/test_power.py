"""Sampling and energy, against sums done by hand; throttling, noticed and not invented."""

import sys
import time

import pytest

from mobilevlm.jetson.clocks import Clock
from mobilevlm.jetson.power import PowerSampler, Sample, SysfsSource, TegrastatsSource, joules, open_source, sample
from mobilevlm.jetson.thermal import Zone
from mobilevlm.jetson.throttling import look_for_throttling
from tests.jetson.trees import FILES, NANO_MONITOR, clock, out_of_the_box, write


def watts(*pairs, rail="VDD_IN"):
    return [Sample(at_s, {rail: 1e3 * power}) for at_s, power in pairs]


def test_energy_by_hand():
    # 2 W to 4 W within a second: 3 J; 4 W for half a second: 2 J.
    samples = watts((10.0, 2), (10.5, 3), (11.0, 4), (11.5, 4))
    assert joules(samples, ["VDD_IN"], 10.0, 11.5) == pytest.approx(5.0)
    # 2 W until the first sample (0.25 s), 4 W behind the last (0.25 s): 1.5 J more.
    assert joules(samples, ["VDD_IN"], 9.75, 11.75) == pytest.approx(6.5)
    # From 10.4 to 11.1 the samples at 10.5 (3 W) and 11.0 (4 W) count: 0.3 + 1.75 + 0.4 J.
    assert joules(samples, ["VDD_IN"], 10.4, 11.1) == pytest.approx(2.45)


def test_energy_of_several_rails_is_that_of_their_sum():
    samples = [Sample(0.1 * number, {"A": 1000.0, "B": 500.0}) for number in range(11)]
    assert joules(samples, ["A", "B"], 0.0, 1.0) == pytest.approx(1.5)
    assert joules(samples, ["B"], 0.0, 1.0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("samples", "begin", "end"),
    [
        ([], 0, 1),
        (watts((0.0, 2), (0.5, 2)), 2, 3),  # none in the window
        (watts((0.0, 2), (0.4, 2)), 0, 3),  # tegrastats ended in the middle
        (watts((0.0, 2), (2.5, 2)), 0, 2.5),  # nobody looked for two seconds
        ([*watts((0.0, 2)), Sample(0.5, {})], 0, 0.6),  # the rail went away
    ],
)
def test_energy_that_is_not_known_is_none(samples, begin, end):
    assert joules(samples, ["VDD_IN"], begin, end) is None


def test_a_thread_samples_a_board(tmp_path):
    root = out_of_the_box(tmp_path)
    begin = time.perf_counter()
    with PowerSampler(SysfsSource(root, 0.01)) as sampler:
        time.sleep(0.3)
        write(root, f"{NANO_MONITOR}/curr1_input", 3000)
        write(root, "sys/devices/platform/gpu.0/load", 990)
        time.sleep(0.3)
    samples = sampler.samples(begin)
    assert len(samples) > 10 and [one.at_s for one in samples] == sorted(one.at_s for one in samples)
    assert samples[0].rails_mw["VDD_IN"] == 6000 and samples[-1].rails_mw["VDD_IN"] == 15000
    assert samples[0].gpu_load is None and samples[-1].gpu_load == 0.99 and samples[-1].gpu_mhz == 306
    assert samples[0].available_mib == 3072 and samples[0].temperatures_c["tj-thermal"] == 50.218
    end = samples[-1].at_s
    assert 6 * (end - begin) < joules(samples, ["VDD_IN"], begin, end) < 15 * (end - begin)
    length = len(sampler.samples())
    time.sleep(0.05)
    assert len(sampler.samples()) == length  # the thread has ended


def test_tegrastats_as_a_source():
    line = (FILES / "tegrastats_jp6_agx_orin.txt").read_text().strip()
    program = f"import time\nwhile True: print({line!r}, flush=True); print('noise', flush=True); time.sleep(0.02)"
    source = TegrastatsSource([sys.executable, "-c", program])
    with PowerSampler(source) as sampler:
        deadline = time.monotonic() + 20
        while len(sampler.samples()) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
    first, second, *_ = sampler.samples()
    assert first.rails_mw == {"VDD_GPU_SOC": 3206, "VDD_CPU_CV": 4405, "VIN_SYS_5V0": 4767}
    assert (first.gpu_mhz, first.gpu_load, first.available_mib) == (1295, 0.91, 30697 - 29114)
    assert second.at_s > first.at_s
    assert source._process.poll() is not None


def test_without_tegrastats_nothing_fails(tmp_path):
    with pytest.raises(OSError):
        TegrastatsSource([str(tmp_path / "tegrastats")])
    assert isinstance(open_source(tmp_path), SysfsSource)
    assert sample(tmp_path).rails_mw == {}


def at_work(*clocks):
    return [Sample(number / 10, gpu_mhz=mhz, gpu_load=0.95) for number, mhz in enumerate(clocks)]


LOCKED, FREE = Clock(1300, 1300, 1300), Clock(306, 306, 1300)
TRIPS = [Zone("cpu-thermal", 50.0, 99.0), Zone("tj-thermal", 50.0, None)]


def test_a_locked_clock_that_drops_is_throttling():
    found = look_for_throttling(at_work(*[1300] * 8, 900, 700), LOCKED, TRIPS, {"oc1": 0}, {"oc1": 0})
    (sentence,) = found.noticed
    assert "20% of the samples at work, down to 700 MHz" in sentence and "slowed down" in sentence
    assert found.lowest_gpu_mhz == 700 and found.unseen == ()


def test_clocks_that_follow_the_load_are_told_apart():
    (sentence,) = look_for_throttling(at_work(612, 1300), FREE, TRIPS, {"oc1": 0}, {"oc1": 0}).noticed
    assert "clocks were not locked" in sentence


def test_nothing_is_noticed_where_nothing_was():
    idle = [Sample(5.0, gpu_mhz=306, gpu_load=0.02)]  # an idle GPU may be slow
    samples = [*at_work(1300, 1299, 1300), *idle]
    found = look_for_throttling(samples, LOCKED, TRIPS, {"oc3": 37}, {"oc3": 37})
    assert found.noticed == () and found.unseen == () and found.hottest_c is None
    assert look_for_throttling(at_work(*[1300] * 40, 700), LOCKED, TRIPS, {"oc3": 1}, {"oc3": 1}).noticed == ()


def test_heat_and_over_current():
    samples = [Sample(0.0, temperatures_c={"cpu-thermal": 98.9}), Sample(1.0, temperatures_c={"cpu-thermal": 99.5})]
    found = look_for_throttling(samples, None, TRIPS, {"oc1": 2, "oc3": 37}, {"oc1": 2, "oc3": 41})
    assert found.noticed == (
        "cpu-thermal reached 99.5 C, clocks are lowered from 99.0 C on",
        "4 over-current events (oc3); the hardware slows clocks down for each",
    )
    assert found.hottest_c == 99.5 and found.unseen == ("the GPU's clock at work",)


def test_what_could_not_be_seen_is_said():
    found = look_for_throttling([], None, [], {}, {})
    assert found.noticed == () and len(found.unseen) == 3


def test_a_clock_changes_below_a_root(tmp_path):
    clock(tmp_path, 1300, 306, 1300)
    assert sample(tmp_path).gpu_mhz == 1300
    clock(tmp_path, 408, 306, 1300)
    assert sample(tmp_path).gpu_mhz == 408
