"""`handgrad serve`: the models of a folder over HTTP, until SIGTERM or Ctrl-C."""

import gc
import re
import signal
import threading
from functools import partial

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.console import console
from app.errors import HandgradError
from app.page.routes import page_router
from app.server.json_tensors import dump
from app.server.listening import listen
from app.server.models import Models
from app.server.rest import Options, Rest
from app.server.viewers import ServedViewers

LAST_SECONDS = 1.0  # between the word to end and the end of listening
IDLE_SECONDS = 75  # of a connection, more than what clients' pools keep theirs for


def serve(folder, *, host="127.0.0.1", port=8501, latest=1, options=Options()):
    """Serves the exports in `folder`; returns when it is told to end and all is answered.

    Raises:
        UsageError: where there is nothing to serve, or the address is not free.
        HandgradError: where no model can be loaded.
    """
    models = Models(folder, latest)
    listening = listen(host, port)
    with listening:
        gc.freeze()  # TensorFlow's 400,000 objects: to look through them would take half a second
        _load(models)
        rest = Rest(models, options)
        server = Server(rest, uvicorn.Config(
            application(rest), http=partial(Protocol, head_seconds=options.timeout),
            # A warning is what a client sends: it could fill a disk, or a pipe that nobody reads.
            log_level="error", access_log=False, server_header=False,
            timeout_keep_alive=IDLE_SECONDS, timeout_graceful_shutdown=int(options.timeout) + 1))
        models.watch()
        shown = f"[{host}]" if ":" in host else host
        port = listening.getsockname()[1]
        for name, model in models.models.items():
            serving = ", ".join(map(str, model.available())) or "none that can be loaded"
            console.note(f"{name}: version {serving}  http://{shown}:{port}/v1/models/{name}")
        if options.page and not options.token:
            console.note(f"The page: http://{shown}:{port}/")
        # uvicorn answers what it has accepted, and then hands the signal on.
        signal.signal(signal.SIGTERM, lambda *_: None)
        try:
            server.run([listening])  # on uvloop
        finally:
            models.end()


def application(rest):
    """The ASGI application: the page at `/`, and beside it the REST interface."""
    if not rest.options.page or rest.options.token:  # which a browser would not send
        return rest
    page = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    page.include_router(page_router(ServedViewers(rest.models)))

    async def either(scope, receive, send):
        # Not by a mount, whose layers take as long as the rest of a request.
        of_page = scope["type"] != "http" or re.match("/$|/page/", scope["path"])
        await (page if of_page else rest)(scope, receive, send)

    return either


class Server(uvicorn.Server):
    """Told to end, it answers for a while yet, closing each connection behind an answer.

    A connection that is closed while it idles may have a request on its way, which is lost.
    """

    def __init__(self, rest, config):
        super().__init__(config)
        self.rest = rest

    def handle_exit(self, sig, frame):
        self.rest.ending = True
        threading.Timer(LAST_SECONDS, super().handle_exit, (sig, frame)).start()


class Protocol(HttpToolsProtocol):
    """Says in JSON what is wrong with bytes that are no HTTP; waits only so long for a head.

    Of itself it times connections that idle between two requests, and no others.
    """

    def __init__(self, *arguments, head_seconds, **more):
        super().__init__(*arguments, **more)
        self.head_seconds, self.in_head, self.late = head_seconds, False, None

    def connection_made(self, transport):
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data):
        super().data_received(data)
        if self.in_head and self.late is None:  # a whole head in one piece needs no timer
            self.late = self.loop.call_later(self.head_seconds, self.on_late_head)

    def on_message_begin(self):
        super().on_message_begin()
        self.in_head = True

    def on_headers_complete(self):
        self._end_head()
        super().on_headers_complete()

    def connection_lost(self, error):
        self._end_head()
        super().connection_lost(error)

    def on_late_head(self):
        if self.cycle is None or self.cycle.response_complete:
            self._refuse(408, f"The request's head did not come within {self.head_seconds:g} "
                              "seconds")
        else:
            self.shutdown()  # behind the answer that is being made to the request before

    def send_400_response(self, msg):
        self._refuse(400, msg)

    def _end_head(self):
        self.in_head = False
        if self.late is not None:
            self.late.cancel()
            self.late = None

    def _refuse(self, status, message):
        self._end_head()
        body = dump({"error": message})
        self.transport.write(
            b"%scontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (STATUS_LINE[status], len(body), body))
        self.transport.close()


def _load(models):
    """Loads what can be loaded; two looks, as a version without checksums must lie still."""
    models.look()
    if not all(model.available() for model in models.models.values()):
        models.look()
    if not any(model.available() for model in models.models.values()):
        reasons = [f"{name} version {number}: {version.reason}"
                   for name, model in models.models.items()
                   for number, version in model.known.items() if version.reason]
        raise HandgradError(f"No model in {models.folder} can be served: {'; '.join(reasons)}")
