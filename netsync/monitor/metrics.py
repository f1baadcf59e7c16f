"""Prometheus metrics, read from the state at each scrape.

The counters are the jobs' own, which outlive the daemon and are there, at 0, from a job's first
moment. The server is prometheus-client's, in threads of its own: it holds up nothing and shares
nothing with the daemon but the state directory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from netsync.errors import NetworkError, StateError, reason
from netsync.monitor.mirrors import STATES, MirrorView, mirrors_of
from netsync.monitor.status import JobView, View, view_of
from netsync.net.address import Address
from netsync.plan.standing import State, Totals

_COUNTED = {
    "runs": "Runs that were begun.",
    "failures": "Runs that made no recovery point.",
    "missed": "How often times of the schedule were left out.",
    "created": "Entries created.",
    "updated": "Entries updated.",
    "deleted": "Entries deleted.",
    "literal": "Bytes of file data that travelled.",
    "matched": "Bytes of file data found on the target.",
    "wire_sent": "Bytes sent, TLS included.",
    "wire_received": "Bytes received, TLS included.",
}
assert set(_COUNTED) == set(Totals.__struct_fields__)
_BYTES = {"literal", "matched", "wire_sent", "wire_received"}


class JobMetrics(Collector):
    """Collects what is known of the jobs in the state ``directory``."""

    def __init__(self, directory: Path, now: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._now = now

    def collect(self) -> Iterable[Metric]:
        """Return all metrics. Where the state cannot be read, say so and nothing else."""
        up = GaugeMetricFamily("netsync_state_readable", "1 if the jobs' state could be read.")
        try:
            view = view_of(self._directory, self._now())
            mirrors = mirrors_of(self._directory)
        except StateError:
            up.add_metric([], 0)
            return [up]
        up.add_metric([], 1)
        well = GaugeMetricFamily("netsync_daemon_well", "1 if the daemon shows life.")
        well.add_metric([], 0 if view.trouble else 1)
        per_job = [*_gauges(view), _states(view), *_counters(view), *_scrubs(view)]
        return [up, well, *per_job, *_mirrors(mirrors)]


def _gauges(view: View) -> Iterable[Metric]:
    measures: dict[str, tuple[str, Callable[[JobView], float | None]]] = {
        "lag_seconds": ("Seconds of changes that would be lost now.", lambda each: each.lag),
        "rpo_seconds": ("The job's objective.", lambda each: each.standing.rpo),
        "verdict": ("0 OK, 1 warning, 2 critical.", lambda each: each.verdict.level),
        "last_point_timestamp_seconds": (
            "When the scan began that found the newest complete data.",
            lambda each: each.standing.last_point,
        ),
        "next_run_timestamp_seconds": ("When it runs next.", lambda each: each.standing.next_run),
        "backlog_bytes": ("Bytes not yet there.", lambda each: each.standing.backlog_bytes),
        "backlog_files": ("Files not yet there.", lambda each: each.standing.backlog_files),
        "last_exit_code": ("What the last run came to.", lambda each: each.standing.exit_code),
    }
    for name, (words, measure) in measures.items():
        family = GaugeMetricFamily(f"netsync_job_{name}", words, labels=["job"])
        for each in view.jobs:
            if (value := measure(each)) is not None:
                family.add_metric([each.standing.name], value)
        yield family


def _states(view: View) -> Metric:
    family = GaugeMetricFamily("netsync_job_state", "1 for the state.", labels=["job", "state"])
    for each in view.jobs:
        for state in State:
            family.add_metric([each.standing.name, state.value], state is each.state)
    return family


def _mirrors(mirrors: Sequence[MirrorView]) -> Iterable[Metric]:
    labels = ["mirror", "role", "peer"]
    measures: dict[str, tuple[str, Callable[[MirrorView], int]]] = {
        "lag_operations": (
            "Operations not durable on the standby; there, not applied.",
            lambda each: each.lag,
        ),
        "owed_bytes": ("Bytes that a degraded standby is owed.", lambda each: each.owed_bytes),
        "epoch": ("The mirror's epoch.", lambda each: each.epoch),
    }
    for name, (words, measure) in measures.items():
        family = GaugeMetricFamily(f"netsync_mirror_{name}", words, labels=labels)
        for each in mirrors:
            family.add_metric([each.name, each.role, each.peer], measure(each))
        yield family
    states = GaugeMetricFamily(
        "netsync_mirror_state", "1 for the state.", labels=[*labels, "state"]
    )
    for each in mirrors:
        for state in STATES:
            states.add_metric([each.name, each.role, each.peer, state], state == each.state)
    yield states


def _counters(view: View) -> Iterable[Metric]:
    for name, words in _COUNTED.items():
        unit = "_bytes" if name in _BYTES else ""
        family = CounterMetricFamily(f"netsync_job_{name}{unit}", words, labels=["job"])
        for each in view.jobs:
            family.add_metric([each.standing.name], getattr(each.standing.totals, name))
        yield family


def _scrubs(view: View) -> Iterable[Metric]:
    """What scrubs came to, of the jobs that have them."""
    size = CounterMetricFamily(
        "netsync_job_scrubbed_bytes", "Bytes read again on each side.", labels=["job"]
    )
    rounds = CounterMetricFamily(
        "netsync_job_scrub_rounds", "Whole trees read again.", labels=["job"]
    )
    wrong = GaugeMetricFamily(
        "netsync_job_damaged_files", "Files that rotted or differ unseen.", labels=["job"]
    )
    last = GaugeMetricFamily(
        "netsync_job_scrub_timestamp_seconds", "When the last part was read.", labels=["job"]
    )
    for each in view.jobs:
        scrub = each.standing.scrub
        if scrub is None:
            continue
        size.add_metric([each.standing.name], scrub.bytes)
        rounds.add_metric([each.standing.name], scrub.rounds)
        wrong.add_metric([each.standing.name], scrub.wrong)
        last.add_metric([each.standing.name], scrub.since if scrub.done is None else scrub.done)
    return [size, rounds, wrong, last]


class MetricsServer:
    """Serves metrics over HTTP until closed."""

    def __init__(self, address: Address, directory: Path) -> None:
        registry = CollectorRegistry()
        registry.register(JobMetrics(directory))
        try:
            server, thread = start_http_server(address.port, address.host or "::", registry)
        except OSError as error:
            hint = "is another daemon running? [server] metrics says where"
            raise NetworkError(
                reason(error), op="serve metrics on", where=str(address), hint=hint
            ) from error
        self._server: WSGIServer = server
        self._thread: threading.Thread = thread
        self.address = Address(address.host, server.server_port)

    def close(self) -> None:
        """Stop serving. Blocks for a moment."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
