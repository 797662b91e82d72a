"""Every metric of Sourcebook, and how the processes of one worker add up theirs.

docs/operate.md lists the metrics; a test compares the list with this file.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_JOB_SECONDS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

JOB_SECONDS = Histogram(
    "sourcebook_job_seconds",
    "How long jobs ran, by kind and by how they ended (a state, handed_back or repeated).",
    ["kind", "state"],
    buckets=_JOB_SECONDS,
)
DOCUMENTS = Counter(
    "sourcebook_documents",
    "Documents that passed a step of a stage; its rate is documents a second.",
    ["stage", "step"],
)
REQUEST_SECONDS = Histogram(
    "sourcebook_request_seconds",
    "Time until the gateway began to answer, by route.",
    ["method", "route", "status"],
    buckets=_REQUEST_SECONDS,
)
KEPT = (JOB_SECONDS, DOCUMENTS, REQUEST_SECONDS)
# What is looked up when somebody asks: name -> (meaning, labels).
LOOKED_UP = {
    "sourcebook_queue_length": ("Messages that wait on the broker, by queue.", ["queue"]),
    "sourcebook_beat_tick_seconds": ("When beat last recovered jobs or ran schedules, in seconds since 1970.", []),
    "sourcebook_jobs_active": ("Jobs that are queued or running, by queue and state.", ["queue", "state"]),
}


def make_gauge(name: str, readings: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    """Return one of the metrics of `LOOKED_UP` with its readings: (values of its labels, number)."""
    meaning, labels = LOOKED_UP[name]
    gauge = GaugeMetricFamily(name, meaning, labels=labels)
    for label_values, number in readings:
        gauge.add_metric(label_values, number)
    return gauge


def share_between_processes(folder: Path) -> None:
    """Keep the values in files of `folder`, one for each process; call it before the processes are forked.

    `render_metrics(..., folder)` adds them up.
    """
    # The library takes the folder from its own variable and from nowhere else.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]


def render_metrics(gauges: Iterable[Metric], folder: Path | None = None) -> bytes:
    """Return this process's metrics (or those of all processes that share `folder`) and `gauges` as Prometheus reads them."""
    if folder is None:
        return generate_latest(REGISTRY) + generate_latest(_registry_of(gauges))
    registry = _registry_of(gauges)
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
    return generate_latest(registry)


class _Given(Collector):
    def __init__(self, gauges: Iterable[Metric]) -> None:
        self._gauges = list(gauges)

    def collect(self) -> Iterable[Metric]:
        return self._gauges


def _registry_of(gauges: Iterable[Metric]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Given(gauges))
    return registry
