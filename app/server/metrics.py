"""What the server counts, in Prometheus's text form."""

import re

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_MODEL = re.compile(r"/v[12]/models/([^/:]+)", re.IGNORECASE)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Requests by model and status, their times, rows a call, versions that serve."""

    def __init__(self, models):
        self.models, self.registry = models, CollectorRegistry()
        self.requests = Counter("handgrad_requests", "Requests answered", ("model", "status"),
                                registry=self.registry)
        self.seconds = Histogram("handgrad_request_seconds", "Time to answer", ("model",),
                                 buckets=_SECONDS, registry=self.registry)
        self.rows_a_call = Histogram("handgrad_call_rows", "Rows of a call of a model",
                                     buckets=(1, 2, 4, 8, 16, 32, 64, 128),
                                     registry=self.registry)
        self.versions = Gauge("handgrad_model_version", "Newest version that serves", ("model",),
                              registry=self.registry)

    def rows(self, count):
        self.rows_a_call.observe(count)

    def count(self, path, status, seconds=None):
        """An answer, and how long it took; None for one that took no work."""
        found = _MODEL.match(path)
        # Names that clients make up are no labels: there would be no end of them.
        model = found[1] if found and found[1] in self.models.models else ""
        self.requests.labels(model, str(status)).inc()
        if seconds is not None:
            self.seconds.labels(model).observe(seconds)

    def text(self):
        for name, model in self.models.models.items():
            self.versions.labels(name).set(max(model.available(), default=0))
        return generate_latest(self.registry)
