"""TensorFlow Serving's REST interface, and the Open Inference Protocol, as an ASGI application.

Source: tensorflow/serving, g3doc/api_rest.md and model_servers/http_rest_api_handler.cc.
"""

import asyncio
import hmac
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

import numpy as np

from app.server import encoded_images, examples, json_tensors, open_inference, plain_numbers
from app.server.batching import Batcher
from app.server.errors import RestError
from app.server.metrics import Metrics

_MODEL = r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_CALL = re.compile(_MODEL + r":(predict|classify|regress)", re.IGNORECASE)
_STATUS = re.compile(_MODEL + r"(/metadata)?", re.IGNORECASE)
_METRICS = {"/metrics", "/monitoring/prometheus/metrics"}
_IN_THREADS = 2**16  # bytes of a body above which it is parsed in a thread


@dataclass(frozen=True)
class Options:
    """batch: rows a call, 1: no batching; wait: seconds for more; queue: requests that wait.

    timeout: seconds for a request; body: bytes of one; token: what `Authorization: Bearer` must
    give; cors: whether pages of other addresses may ask; page: whether there is one at `/`.
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
        self.pool = ThreadPoolExecutor(options.threads + 1)
        self.inside = 0  # requests that wait for a call or its end
        self.ending = False  # connections are closed behind the next answer

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
        except _Gone:
            return
        except Exception as error:  # ours, never the client's
            status = 500
            body = json_tensors.dump({"error": f"{type(error).__name__}: {error}"})
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
            return await self._called(*asked.groups(), None, "infer", headers, receive)
        if method == "GET" and path.startswith("/v2"):
            return json_tensors.dump(open_inference.told(self.models, path)), []
        if not path.lower().startswith("/v1/"):
            raise RestError(f"Not found: {path}", "NOT_FOUND")
        if method == "POST" and (asked := _CALL.fullmatch(path)):
            return await self._called(*asked.groups(), headers, receive)
        if method == "GET" and (asked := _STATUS.fullmatch(path)):
            return self._told(*asked.groups()), []
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
        if token and not hmac.compare_digest(given, b"Bearer " + token.encode()):
            raise RestError("Give the server's token: Authorization: Bearer TOKEN",
                            "UNAUTHENTICATED")

    def _told(self, name, version, label, metadata):
        """Status or metadata of a model."""
        name, version, label = _named(name, version, label)
        if not metadata:
            return json_tensors.dump(
                {"model_version_status": self.models.status(name, version, label)})
        loaded = self.models.get(name, version, label)
        return json_tensors.dump({
            "model_spec": {"name": name, "signature_name": "", "version": str(loaded.version)},
            "metadata": {"signature_def": {"signature_def": loaded.metadata}}})

    async def _called(self, name, version, label, method, headers, receive):
        self._check_queue()  # before any work is done for it, its body's arrival among it
        body = await self._body(headers, receive)
        self._check_queue()
        asked, method = _named(name, version, label), method.lower()
        if len(body) <= _IN_THREADS:
            made = self._checked(body, asked, method)
        else:
            made = await self._in_thread(self._checked, body, asked, method)
        loaded, signature, inputs, encode, alone = made
        self.inside += 1
        try:
            batcher = self._batcher(loaded, signature, alone)
            outputs = await batcher.run(inputs, self.options.timeout)
        finally:
            self.inside -= 1
        large = sum(value.size for value in outputs.values()) > _IN_THREADS // 8
        answer = await self._in_thread(encode, outputs) if large else encode(outputs)
        return answer, [(b"model-version", str(loaded.version).encode())]

    def _check_queue(self):
        if self.inside >= self.options.queue:
            raise RestError(f"{self.inside} requests wait already: the queue is full",
                            "UNAVAILABLE")

    def _checked(self, body, asked, method):
        """What `_parsed` gives, and whether the request is to have a call alone."""
        loaded, signature, inputs, encode = self._parsed(body, asked, method)
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
                parallel=1 if batched else options.threads, seen=self.metrics.rows)
        return made[key]

    async def _in_thread(self, function, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self.pool, function, *arguments)

    async def _body(self, headers, receive):
        """The body of a request; what is too large is read and thrown away, to answer it."""
        parts, size, most = [], 0, self.options.body
        try:
            async with asyncio.timeout(self.options.timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    size += len(message.get("body", b""))
                    if size <= most:
                        parts.append(message.get("body", b""))
                    else:
                        parts.clear()
                    if not message.get("more_body"):
                        break
        except TimeoutError as error:
            raise RestError(f"The request's body did not come within {self.options.timeout:g} "
                            "seconds", "REQUEST_TIMEOUT") from error
        if size > most:
            raise RestError(f"The request has {size} bytes, more than the {most} that are taken",
                            "PAYLOAD_TOO_LARGE")
        return parts[0] if len(parts) == 1 else b"".join(parts)


class _Gone(Exception):
    """The client has closed the connection: nobody waits for an answer."""


def _named(name, version, label):
    """Name and label out of a URL, and the version as a number."""
    if version is not None and int(version) >= 2**63:
        raise RestError(f"Failed to convert version: {version} to numeric.")
    return (unquote(name), None if version is None else int(version),
            None if label is None else unquote(label))


def _signature(loaded, name):
    if name not in loaded.signatures:
        raise RestError(f'Serving signature name: "{name}" not found in signature def')
    return loaded.signatures[name]
