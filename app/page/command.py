"""`handgrad page`: the page on the model of a run."""

import socket

from app.commands import load_data
from app.console import console
from app.errors import HandgradError, UsageError
from app.page.model_viewer import ModelViewer
from app.runs import Run, read_json

HOST = "127.0.0.1"


def show_page(name, port):
    """Serves the page until Ctrl-C, to this machine alone."""
    app_of, uvicorn = _server()
    run = Run.open(name)
    viewer = ModelViewer(run.model(), name=run.name, labels=_labels(run))
    with _listening(port) as listening:
        url = f"http://{HOST}:{listening.getsockname()[1]}/"
        console.result({"url": url}, url)
        console.stdout.flush()
        console.note("Open this address in a browser. Ctrl-C ends it.")
        config = uvicorn.Config(app_of(viewer), log_level="warning")
        uvicorn.Server(config).run(sockets=[listening])


def _server():
    """(a function from a viewer to the application, uvicorn)"""
    try:
        import fastapi
        import uvicorn

        from app.page.routes import Viewers, page_router
    except ImportError as error:
        raise UsageError(
            "The page needs FastAPI and Uvicorn: pip install 'handgrad[page]'. "
            f"Received: {error}") from error

    def app_of(viewer):
        app = fastapi.FastAPI(title="Handgrad", docs_url=None, redoc_url=None, openapi_url=None)
        app.include_router(page_router(Viewers(viewer)))
        return app

    return app_of, uvicorn


def _listening(port):
    """A socket that listens on `port` of this machine, or on any for 0."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise HandgradError(f"Port {port} cannot be used: {reason}. Choose another --port.")
    return listening


def _labels(run):
    """The classes of a run, from what its test has written or else from its data."""
    metrics = run.path / "metrics.json"
    if metrics.exists():
        return [row["name"] for row in read_json(metrics)["test"]["classes"]]
    return load_data(run).class_names
