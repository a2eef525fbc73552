"""`handgrad page`: the page on the model of a run."""

from app.commands import load_data
from app.console import console
from app.errors import UsageError
from app.page.model_viewer import ModelViewer
from app.runs import Run, read_json

HOST = "127.0.0.1"


def show_page(name, port):
    """Serves the page until Ctrl-C, to this machine alone."""
    app_of, uvicorn, listen = _server()
    run = Run.open(name)
    run.check_classifies("The page of layers")
    viewer = ModelViewer(run.model(), name=run.name, labels=_labels(run))
    with listen(HOST, port) as listening:
        url = f"http://{HOST}:{listening.getsockname()[1]}/"
        console.result({"url": url}, url)
        console.stdout.flush()
        console.note("Open this address in a browser. Ctrl-C ends it.")
        config = uvicorn.Config(app_of(viewer), log_level="warning")
        uvicorn.Server(config).run(sockets=[listening])


def _server():
    """(a function from a viewer to the application, uvicorn, app.server.listening.listen)"""
    try:
        import fastapi
        import uvicorn

        from app.page.routes import Viewers, page_router
        from app.server.listening import listen
    except ImportError as error:
        raise UsageError(
            "The page needs FastAPI and Uvicorn: pip install 'handgrad[serve]'. "
            f"Received: {error}") from error

    def app_of(viewer):
        app = fastapi.FastAPI(title="Handgrad", docs_url=None, redoc_url=None, openapi_url=None)
        app.include_router(page_router(Viewers(viewer)))
        return app

    return app_of, uvicorn, listen


def _labels(run):
    """The classes of a run, from what its test has written or else from its data."""
    metrics = run.path / "metrics.json"
    if metrics.exists():
        return [row["name"] for row in read_json(metrics)["test"]["classes"]]
    return load_data(run).class_names
