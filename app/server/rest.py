"""TensorFlow Serving's REST interface, and the Open Inference Protocol, as an ASGI application.

Source: tensorflow/serving, g3doc/api_rest.md and model_servers/http_rest_api_handler.cc.
"""

import asyncio
import hmac
import re
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from app.console import console
from app.server import encoded_images, examples, json_tensors, open_inference, plain_numbers
from app.server.admission import SMALL, Admission
from app.server.batching import Batcher
from app.server.errors import RestError
from app.server.metrics import Metrics
from app.server.names import named

_MODEL = r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_CALL = re.compile(_MODEL + r":(predict|classify|regress)", re.IGNORECASE)
_STATUS = re.compile(_MODEL + r"(/metadata)?", re.IGNORECASE)
_METRICS = {"/metrics", "/monitoring/prometheus/metrics"}
_MOST_TOLD = 100  # errors of ours that are printed
_PARSERS = 2  # threads for JSON, which share an interpreter: more of them would hold more memory


@dataclass(frozen=True)
class Options:
    """batch: rows a call, 1: no batching; wait: seconds for more; queue: requests that wait.

    timeout: seconds from a request's head to its answer, and for the head itself; body: bytes of
    one; token: what `Authorization: Bearer` must give, None: nothing; cors: whether pages of other
    addresses may ask; page: whether there is one at `/`; threads: calls of models at a time.
    """

    batch: int = 32
    wait: float = 0.0
    queue: int = 256
    timeout: float = 30.0
    body: int = 2**25
    token: str | None = None
    cors: bool = False
    page: bool = True
    threads: int = 2


class Rest:
    """The application: `models` is a `models.Models`."""

    def __init__(self, models, options=Options()):
        self.models, self.options, self.metrics = models, options, Metrics(models)
        self.admission = Admission(options.queue, options.timeout, options.body)
        self.pool, self.parsers = ThreadPoolExecutor(options.threads), ThreadPoolExecutor(_PARSERS)
        self.ending = False  # connections are closed behind the next answer
        self._told_of = set()  # where errors of ours were raised, and what they said

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        began, method = time.perf_counter(), scope["method"]
        path = scope.get("raw_path", scope["path"].encode()).split(b"?")[0].decode("latin-1")
        headers = {b"content-type": b"application/json"}
        try:
            status, (body, more) = 200, await self._answer(method, path, scope, receive)
            headers |= dict(more)
        except RestError as error:
            status, body = error.status, json_tensors.dump({"error": str(error)})
            if status == 500:
                self._note(error)
        except Exception as error:  # ours, never the client's
            status = 500
            body = json_tensors.dump({"error": f"{type(error).__name__}: {error}"})
            self._note(error)
        headers[b"content-length"] = str(len(body)).encode()
        if self.ending or status == 408:  # the rest of a body that is late would be in the way
            headers[b"connection"] = b"close"
        if self.options.cors and method != "OPTIONS":
            headers[b"access-control-allow-origin"] = b"*"
        if status == 401:
            headers[b"www-authenticate"] = b"Bearer"
        await send({"type": "http.response.start", "status": status,
                    "headers": list(headers.items())})
        await send({"type": "http.response.body",
                    "body": b"" if method == "HEAD" else body})
        self.metrics.count(path, status, time.perf_counter() - began)

    def _note(self, error):
        """Prints an error of ours: once each, and not without end; the metrics count them all."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = place.filename, place.lineno, str(error)[:100]
        if what not in self._told_of and len(self._told_of) < _MOST_TOLD:
            self._told_of.add(what)
            console.note("".join(traceback.format_exception(error)).rstrip())

    def refuses(self, scope):
        """Whether a request is a call while the queue is full: it is counted here.

        `__call__` would refuse it too, in several times the time, which the calls would lack.
        """
        if not self.admission.full or self.ending or scope["method"] != "POST":
            return False
        path = scope["raw_path"].decode("latin-1")
        if not (_CALL.fullmatch(path) or open_inference.INFER.fullmatch(path)):
            return False
        self.metrics.count(path, 503)
        return True

    async def _answer(self, method, path, scope, receive):
        """(body, headers) of what goes well."""
        if path == "/healthz" and method in ("GET", "HEAD"):
            return self._health(), []
        if path in open_inference.HEALTH and method == "GET":
            if path.endswith("ready"):
                self._health()
            return json_tensors.dump(open_inference.HEALTH[path]), []
        headers = dict(scope["headers"])
        if method == "OPTIONS":
            return b"", self._preflight(headers)
        self._authorize(headers)
        if path in _METRICS and method == "GET":
            return self.metrics.text(), [(b"content-type", b"text/plain; version=0.0.4")]
        if method == "POST" and (asked := open_inference.INFER.fullmatch(path)):
            return await self._called(named(*asked.groups()), "infer", receive)
        if method == "GET" and path.startswith("/v2"):
            return json_tensors.dump(open_inference.told(self.models, path)), []
        if not path.lower().startswith("/v1/"):
            raise RestError(f"Not found: {path}", "NOT_FOUND")
        if method == "POST" and (asked := _CALL.fullmatch(path)):
            *asked, method = asked.groups()
            return await self._called(named(*asked), method.lower(), receive)
        if method == "GET" and (asked := _STATUS.fullmatch(path)):
            *asked, metadata = asked.groups()
            return self._told(*named(*asked), metadata), []
        if method == "GET" and re.fullmatch(r"/v1/models/?", path, re.IGNORECASE):
            raise RestError("Missing model name in request.")
        raise RestError(f"Malformed request: {method} {path}")

    def _health(self):
        loaded = {name: max(model.available(), default=None)
                  for name, model in self.models.models.items()}
        if self.ending or not any(loaded.values()):
            raise RestError("The server ends" if self.ending else "No model can be served yet",
                            "UNAVAILABLE")
        return json_tensors.dump({"status": "ok"})

    def _preflight(self, headers):
        origin = headers.get(b"origin", b"")
        if not re.match(rb"https?://", origin):
            raise RestError("OPTIONS needs an Origin header of http or https")
        if not self.options.cors:
            return []
        return [(b"access-control-allow-origin", b"*"),
                (b"access-control-allow-methods", b"POST, GET, OPTIONS"),
                (b"access-control-allow-headers", b"Content-Type, Authorization")]

    def _authorize(self, headers):
        token = self.options.token
        given = headers.get(b"authorization", b"")
        if token is not None and not hmac.compare_digest(given, b"Bearer " + token.encode()):
            raise RestError("Give the server's token: Authorization: Bearer TOKEN",
                            "UNAUTHENTICATED")

    def _told(self, name, version, label, metadata):
        """Status or metadata of a model."""
        if not metadata:
            return json_tensors.dump(
                {"model_version_status": self.models.status(name, version, label)})
        loaded = self.models.get(name, version, label)
        return json_tensors.dump({
            "model_spec": {"name": name, "signature_name": "", "version": str(loaded.version)},
            "metadata": {"signature_def": {"signature_def": loaded.metadata}}})

    async def _called(self, asked, method, receive):
        return await self.admission.run(receive, partial(self._outcome, asked, method))

    async def _outcome(self, asked, method, body):
        """(body, headers) of what answers a call."""
        large = len(body) > SMALL
        loaded, signature, inputs, encode, alone = (
            await self._in_thread(self._checked, body, asked, method) if large
            else self._checked(body, asked, method))
        outputs = await self._batcher(loaded, signature, alone).run(inputs)
        large = sum(value.size for value in outputs.values()) > SMALL // 8
        answer = await self._in_thread(encode, outputs) if large else encode(outputs)
        return answer, [(b"model-version", str(loaded.version).encode())]

    def _checked(self, body, asked, method):
        """What `_parsed` gives, and whether the request is to have a call alone."""
        loaded, signature, inputs, encode = self._parsed(body, asked, method)
        if signature.batched:
            json_tensors.check_rows(inputs)
        # Those that share a call have then together no more pixels than one may have.
        most = encoded_images.MAX_PIXELS // self.options.batch
        alone = encoded_images.pixels(signature, inputs) > most
        return loaded, signature, inputs, encode, alone

    def _parsed(self, body, asked, method):
        """(version, signature, inputs, what makes JSON of the outputs) of a request."""
        if method == "infer":
            return open_inference.parsed(body, lambda: self.models.get(*asked))
        if method == "predict" and (made := self._of_numbers(body, asked)):
            return made
        request = json_tensors.decode(body)
        given = json_tensors.signature_name(request)
        loaded = self.models.get(*asked)
        if method == "predict":
            signature = _signature(loaded, given or "serving_default")
            inputs, rows = json_tensors.tensors(request, signature.inputs)
            return loaded, signature, inputs, partial(json_tensors.encode, rows=rows)
        signature = _signature(loaded, examples.chosen(loaded.signatures, given, method))
        examples.check(signature, method)
        values = np.array(examples.serialized(request), object)
        (name,) = signature.inputs
        return loaded, signature, {name: values}, lambda outputs: examples.encode(method, outputs)

    def _of_numbers(self, body, asked):
        """What `_parsed` gives, of a request that `plain_numbers` reads, or None."""
        try:
            loaded = self.models.get(*asked)
            signature = _signature(loaded, "serving_default")
        except RestError:  # said behind what is wrong with the body
            return None
        if (found := plain_numbers.read(body, signature.inputs)) is None:
            return None
        inputs, rows = found
        return loaded, signature, inputs, partial(json_tensors.encode, rows=rows)

    def _batcher(self, loaded, signature, alone):
        made, key = loaded.batchers, (signature.name, alone)
        if key not in made:
            options = self.options
            batched = signature.batched and options.batch > 1 and not alone
            made[key] = Batcher(
                partial(loaded.call, signature), self.pool, size=options.batch if batched else 1,
                wait=options.wait if batched else 0,
                parallel=1 if batched else options.threads, steady=signature.steady,
                seen=self.metrics.rows)
        return made[key]

    async def _in_thread(self, function, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self.parsers, function, *arguments)


def _signature(loaded, name):
    if name not in loaded.signatures:
        raise RestError(f'Serving signature name: "{name}" not found in signature def')
    return loaded.signatures[name]
