"""What the service counts, for Prometheus."""

import prometheus_client as prometheus

SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.3, 2.6, 5, 10, 30)
JOBS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one service, in a registry of its own.

    Attributes:
        requests: by `path` (as OpenAPI writes it), `method` and `status`.
        seconds: from the first byte of a request to the last of its answer.
        in_flight: requests being answered.
        batch: searches and embeddings that went through the model together.
    """

    def __init__(self) -> None:
        self.registry = prometheus.CollectorRegistry()
        named = {"registry": self.registry, "namespace": "twinlens"}
        self.requests = prometheus.Counter(
            "requests", "Requests answered.", ("path", "method", "status"), **named
        )
        self.seconds = prometheus.Histogram(
            "request_seconds", "Time of a request.", ("path",), buckets=SECONDS, **named
        )
        self.in_flight = prometheus.Gauge(
            "requests_in_flight", "Requests being answered.", **named
        )
        self.batch = prometheus.Histogram(
            "batch_jobs", "Jobs encoded together.", buckets=JOBS, **named
        )
        prometheus.ProcessCollector(registry=self.registry)

    def text(self) -> tuple[bytes, str]:
        """All of them in Prometheus' format, and its media type."""
        found = prometheus.generate_latest(self.registry)
        return found, prometheus.CONTENT_TYPE_LATEST
