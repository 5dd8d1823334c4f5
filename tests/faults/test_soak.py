"""A session that lives for months, and one that is opened again and again: nothing grows."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mobilevlm.runtime import Session
from tests.faults.soak import cycles, growing, slopes, turns

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read from /proc")


def by_name(found):
    return {one.name: one for one in found}


def flat(found, most_kib):
    """Whether files and threads stay as many, and memory grows by less than `most_kib` a round for certain."""
    assert not growing(found, most_kib), found


def test_a_few_openings_and_turns_leave_all_flat(bundle):
    flat(cycles(bundle, 12), 1000)  # a session that stays open takes several MiB
    with Session(bundle, prefix_cache_bytes=2**22, scrub=False) as session:
        flat(turns(session, 60), 100)  # image embeddings that stay take 144 KiB


@pytest.mark.slow
def test_hundreds_of_openings_and_a_thousand_turns_leave_all_flat(demo_fp32):
    """Issue 23, "threads, processes, signals". What is filled once is full after some 60 openings."""
    flat(cycles(demo_fp32, 300), 4)
    with Session(demo_fp32, prefix_cache_bytes=2**24, scrub=False) as session:
        flat(turns(session, 1000), 0.5)


def test_what_leaks_is_seen():
    kept: list[np.ndarray] = []
    np.ones(2**21)  # from now on the C library takes what is smaller from its heap
    heap = [(np.ones(2**19), np.ones(2**17)) for _ in range(50)]
    holes = [small for _, small in heap]  # of 4 MiB, freed but resident, as a process has after other tests
    del heap
    found = by_name(slopes(80, lambda number: kept.append(np.full(2**17, number, np.float64))))
    assert found["memory (KiB)"].low > 500 and found["open files"].value == 0 and len(holes) == 50
    files = []
    found = by_name(slopes(40, lambda number: files.append(open(__file__))))
    assert found["open files"].value == pytest.approx(1)
    for file in files:
        file.close()
