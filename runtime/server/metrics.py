"""Prometheus metrics: requests, the queue, and the stages of answers."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ..statistics import Statistics
from .engine import Engine
from .turns import Turns

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
RATES = (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 500, 1000)


class Metrics:
    """Metrics of a server.

    Args:
        turns: the queue.
        engines: by name.
    """

    def __init__(self, turns: Turns, engines: dict[str, Engine]):
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "mobilevlm_requests", "Requests by path and status", ["path", "status"], registry=self.registry
        )
        self._tokens = Counter(
            "mobilevlm_tokens", "Tokens by kind: prompt, cached (of the prompt), answer", ["model", "kind"],
            registry=self.registry,
        )  # fmt: skip
        self._queue = Histogram(
            "mobilevlm_queue_seconds", "Time in the queue", ["model"], buckets=SECONDS, registry=self.registry
        )
        self._stages = Histogram(
            "mobilevlm_stage_seconds", "Time of a stage: image_encode, prefill, ttft (the engine's, without the queue)",
            ["model", "stage"], buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._rate = Histogram(
            "mobilevlm_decode_tokens_per_second", "Decode rate of an answer", ["model"], buckets=RATES,
            registry=self.registry,
        )  # fmt: skip
        self._gauges(turns, engines)

    def _gauges(self, turns: Turns, engines: dict[str, Engine]) -> None:
        Gauge("mobilevlm_waiting_requests", "Requests in the queue", registry=self.registry).set_function(
            lambda: turns.waiting
        )
        restarts = Gauge("mobilevlm_engine_restarts", "Starts after a crash", ["model"], registry=self.registry)
        damaged = Gauge(
            "mobilevlm_engine_damaged", "1 where a file of the bundle has rotted", ["model"], registry=self.registry
        )
        memory = Gauge("mobilevlm_engine_peak_rss_bytes", "Peak memory", ["model"], registry=self.registry)
        self._memory = memory
        for name, engine in engines.items():
            restarts.labels(name).set_function(partial(getattr, engine, "restarts"))
            damaged.labels(name).set_function(partial(_is_damaged, engine))
            memory.labels(name)

    def responded(self, path: str, status: int) -> None:
        """Counts a response.

        Args:
            path: of the route, not of the request: there are few of them.
            status: HTTP status.
        """
        self._requests.labels(path, status).inc()

    def waited(self, model: str, seconds: float) -> None:
        """Notes a time in the queue.

        Args:
            model: name of the bundle.
            seconds: from the request to its turn.
        """
        self._queue.labels(model).observe(seconds)

    def answered(self, model: str, statistics: Statistics) -> None:
        """Notes the figures of an answer.

        Args:
            model: name of the bundle.
            statistics: of the answer.
        """
        for kind, count in {
            "prompt": statistics.prompt_tokens,
            "cached": statistics.reused_tokens,
            "answer": statistics.new_tokens,
        }.items():
            self._tokens.labels(model, kind).inc(count)
        if statistics.image_encode_ms:
            self._stages.labels(model, "image_encode").observe(statistics.image_encode_ms / 1e3)
        self._stages.labels(model, "prefill").observe(statistics.prefill_ms / 1e3)
        self._stages.labels(model, "ttft").observe(statistics.ttft_ms / 1e3)
        if statistics.decode_tokens_per_s:
            self._rate.labels(model).observe(statistics.decode_tokens_per_s)
        self._memory.labels(model).set(statistics.peak_rss_mib * 2**20)

    def text(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def _is_damaged(engine: Engine) -> float:
    return float(engine.damage is not None)
