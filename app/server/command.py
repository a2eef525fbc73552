"""`handgrad serve`: the models of a folder over HTTP, until SIGTERM or Ctrl-C."""

import gc
import re
import signal
import sys
import threading
from functools import partial

import uvicorn
from fastapi import FastAPI

from app.console import console
from app.errors import HandgradError
from app.page.routes import page_router
from app.server.admission import Admission, queue_is_full
from app.server.listening import listen
from app.server.models import Models
from app.server.protocol import Protocol, response
from app.server.rest import Options, Rest
from app.server.viewers import ServedViewers

LAST_SECONDS = 1.0  # between the word to end and the end of listening
IDLE_SECONDS = 75  # of a connection, more than what clients' pools keep theirs for
SWITCH_SECONDS = 0.0005  # that a thread may keep the event loop from its work; Python's are 0.005
PAGE_QUEUE = 32  # questions of the page that wait or are answered


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
        server = Server(rest, configuration(rest))
        sys.setswitchinterval(SWITCH_SECONDS)
        models.watch()
        shown = f"[{host}]" if ":" in host else host
        port = listening.getsockname()[1]
        for name, model in models.models.items():
            serving = ", ".join(map(str, model.available())) or "none that can be loaded"
            console.note(f"{name}: version {serving}  http://{shown}:{port}/v1/models/{name}")
        if options.page and options.token is None:
            console.note(f"The page: http://{shown}:{port}/")
        # uvicorn answers what it has accepted, and then hands the signal on.
        signal.signal(signal.SIGTERM, lambda *_: None)
        try:
            server.run([listening])  # on uvloop
        finally:
            models.end()


def configuration(rest):
    """uvicorn's, of a server that speaks HTTP and nothing else, to whoever asks."""
    return uvicorn.Config(
        application(rest), http=protocol(rest), ws="none", lifespan="off", proxy_headers=False,
        # A warning is what a client sends: it could fill a disk, or a pipe that nobody reads.
        log_level="error", access_log=False, server_header=False, timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=int(rest.options.timeout) + 1)


def application(rest):
    """The ASGI application: the page at `/`, and beside it the REST interface."""
    options = rest.options
    if not options.page or options.token is not None:  # which a browser would not send
        return rest
    page = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # A queue of its own: its questions take seconds, and must not keep others out.
    admission = Admission(min(PAGE_QUEUE, options.queue), options.timeout, options.body)
    page.include_router(page_router(ServedViewers(rest.models), admission, options.threads))

    async def either(scope, receive, send):
        # Not by a mount, whose layers take as long as the rest of a request.
        of_page = re.match("/$|/page/", scope["path"])
        await (page if of_page else rest)(scope, receive, send)

    return either


def protocol(rest):
    """What makes a connection: one that refuses calls while the queue is full, at little cost."""
    allowed = [b"access-control-allow-origin: *"] if rest.options.cors else []
    busy = response(503, queue_is_full(rest.options.queue), *allowed)

    def refusal(scope):
        return busy if rest.refuses(scope) else None

    return partial(Protocol, head_seconds=rest.options.timeout, refusal=refusal)


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
