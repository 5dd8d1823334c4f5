"""A fast slice of the fuzzer of pictures: every changed file is read or refused, in time and memory."""

import time

from tests.faults.pictures import run


def test_changed_pictures_are_read_or_refused():
    seed = int(time.time())
    figures = run(seed, count=1500, minutes=0.1)
    print(f"python -m tests.faults.pictures --seed {seed}: {figures}")
    assert figures.failures == [], f"seed {seed}"
    assert figures.counts["read"] > 0 and figures.counts["refused"] > 0
