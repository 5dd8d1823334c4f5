"""Reads an open bundle's files again and again in a thread, and says when one of them has rotted.

The thread works for a share of the time, and so costs an answer no more than that share on any machine: at worst all
threads of a stage wait as long as this one has a core. On a busy machine it takes longer for each slice, and rests the
longer. Its priority stays that of the others: a thread of low priority that holds Python's lock, or that is waited for
to take it, would hold up an answer wherever other programs want the cores.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path
from weakref import finalize

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.disk import lower_disk_priority
from mobilevlm.engines.manifest import Manifest
from mobilevlm.engines.scrub import DamageError, distrust_file, is_replaced, scrub

FIRST_AFTER_S = 5.0  # a single question has been answered by then
PERIOD_S = 3600.0  # from the end of one reading to the begin of the next
TIME_SHARE = 0.005  # for reading and hashing
SECONDS_TO_LEAVE = 1.0  # for a read that is in progress: a disk may not answer


class Scrubber:
    """Thread that reads a bundle's files until it is stopped, or nobody refers to this any more.

    Args:
        bundle: what was opened.
    """

    def __init__(self, bundle: Bundle):
        self._stop, self._problems = threading.Event(), list[str]()
        # Where it lies whatever the process's directory becomes; not this object, which would never be freed.
        words = (bundle.directory.absolute(), bundle.manifest, self._stop, self._problems)
        self._thread = threading.Thread(target=_scrub_on, args=words, name="scrub", daemon=True)
        self._thread.start()
        finalize(self, self._stop.set)

    @property
    def problem(self) -> str | None:
        """Problem of the first file that was found damaged, with its name; None as long as there is none."""
        return self._problems[0] if self._problems else None

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join(SECONDS_TO_LEAVE)


def _scrub_on(directory: Path, manifest: Manifest, stop: threading.Event, problems: list[str]) -> None:
    """Reads a bundle's files until one is damaged.

    Args:
        directory: of the bundle.
        manifest: of the bundle as it was opened.
        stop: ends the reading.
        problems: gets what is wrong.
    """
    lower_disk_priority()
    wait = FIRST_AFTER_S
    while not stop.wait(wait):
        try:
            _paced(scrub(directory, manifest), stop)
        except DamageError as error:
            if is_replaced(directory, manifest, error.name):
                return  # what was opened is no longer on the disk: there is nothing to compare
            distrust_file(directory, error.name)  # first: whoever reads of the problem may open the bundle again
            problems.append(str(error))
            return
        wait = PERIOD_S


def _paced(slices: Iterable[None], stop: threading.Event) -> None:
    """Takes slices of work so slowly that they keep to their share of the time.

    Args:
        slices: yields after each.
        stop: ends the work.
    """
    begin = time.perf_counter()
    for _ in slices:
        worked = time.perf_counter() - begin
        if stop.wait(worked / TIME_SHARE - worked):
            return
        begin = time.perf_counter()
