"""What the API counts, in Prometheus' text form: requests by API, method and status class, and their time."""

from __future__ import annotations

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

REQUESTS = Counter("chronova_api_requests", "Requests answered", ["api", "method", "status"], registry=REGISTRY)
SECONDS = Histogram(
    "chronova_api_request_seconds",
    "Time to answer a request",
    ["api"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
    registry=REGISTRY,
)
LOG_POSITION = Gauge("chronova_log_position", "Position of the newest commit in the log", registry=REGISTRY)
READ_POSITION = Gauge("chronova_read_model_position", "Position that the read model shows", registry=REGISTRY)
LOG_CONNECTED = Gauge("chronova_log_connected", "1 while NATS is connected", registry=REGISTRY)

_APIS = frozenset({"identity", "compute", "image", "network", "volume", "placement", "v1", "ui", "console"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@cache
def _children(api: str, method: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(api, method, str(status)), SECONDS.labels(api)


def observe(api: str, method: str, status: int, seconds: float) -> None:
    """Count one request. Unknown names are counted as `other`: labels are bounded whatever callers send."""
    api = api if api in _APIS else "other"
    method = method if method in _METHODS else "other"
    count, time = _children(api, method, status)
    count.inc()
    time.observe(seconds)
