"""`page_router`: the page and what it asks for, over HTTP."""

import asyncio
import base64
import binascii
import io
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse

from app import images
from app.errors import HandgradError, UsageError
from app.image_header import count_pixels
from app.page.packing import pack, pack_maps
from app.server.admission import Admission
from app.server.errors import RestError

PAGE = Path(__file__).with_name("index.html")
MAX_BYTES = 2**24
MAX_SECONDS = 60.0
MAX_QUESTIONS = 32  # that are answered or wait
MAX_PIXELS = 2**26
MAX_SEED = 2**31 - 2**8  # of the first image that is drawn
# The page is one file: nothing may be loaded from elsewhere, whatever stands in it.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'"),
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}


class Viewers(dict):
    """Viewers by name, for a page on a few models that are known from the start."""

    def __init__(self, *viewers):
        super().__init__((viewer.name, viewer) for viewer in viewers)

    def names(self):
        return list(self)


class _Refused(Exception):
    """A request that ends in `status` and {"error": message}."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def page_router(viewers, admission=None, threads=2):
    """The routes of the page: `GET /`, and below `/page/models` what it shows.

    Of a classifier `look`, `occlusion` and `backward` are asked, of other tasks `answer`.

    Args:
        viewers: has `names()` and `get(name)`, which gives a viewer, or None or a `HandgradError`
            where there is none. A viewer is what `app.page.model_viewer.ModelViewer` and
            `app.page.served_viewer.ServedViewer` are; its `backward` may be None; of other tasks
            `app.page.task_viewer.TaskViewer`. Both are asked at each request: models may come
            and go.
        admission: `app.server.admission.Admission`, the bytes, seconds and number of questions.
        threads: questions that are answered at a time.
    """
    router = APIRouter()
    asked = _Asked(viewers, admission or Admission(MAX_QUESTIONS, MAX_SECONDS, MAX_BYTES), threads)

    @router.get("/", include_in_schema=False)
    def page():
        return FileResponse(PAGE, media_type="text/html", headers=_HEADERS)

    @router.get("/page/models")
    def models():
        # A model may be gone between the two calls.
        found = [viewers.get(name) for name in viewers.names()]
        return JSONResponse([_summary(viewer) for viewer in found if viewer is not None])

    @router.get("/page/models/{name}")
    def layers(name: str):
        return _answer(lambda: _find(viewers, name).layers())

    @router.post("/page/models/{name}/look")
    async def look(name: str, request: Request):
        return await asked(name, request, _of_image(_look))

    @router.post("/page/models/{name}/answer")
    async def answer(name: str, request: Request):
        return await asked(name, request, _task_answer)

    @router.post("/page/models/{name}/occlusion")
    async def occlude(name: str, request: Request):
        return await asked(name, request, _of_image(_occlusion))

    @router.post("/page/models/{name}/backward")
    async def backward(name: str, request: Request):
        return await asked(name, request, _of_image(_backward))

    return router


def _summary(viewer):
    return {"name": viewer.name, "task": viewer.task, "version": viewer.version,
            "labels": list(viewer.labels), "image_shape": list(viewer.image_shape),
            "layers": bool(viewer.has_layers), "backward": viewer.backward is not None}


class _Asked:
    """Answers questions, each with a viewer and the object that its request holds."""

    def __init__(self, viewers, admission, threads):
        self.viewers, self.admission, self.pool = viewers, admission, ThreadPoolExecutor(threads)

    async def __call__(self, name, request, question):
        try:
            return await self.admission.run(
                request.receive, partial(self._in_thread, name, question))
        except RestError as error:
            return JSONResponse({"error": str(error)}, error.status)

    async def _in_thread(self, name, question, contents):
        return await asyncio.get_running_loop().run_in_executor(
            self.pool, _answer,
            lambda: question(_find(self.viewers, name), _parse(contents)))


def _of_image(question):
    """A question on a classifier, an image and a class, as one on what a request holds."""
    def asked_of(viewer, asked):
        if viewer.task != "classify":
            raise UsageError(f"The model '{viewer.name}' does not classify: ask it at /answer.")
        return question(viewer, _image(asked, viewer.image_shape), _label(asked, viewer))

    return asked_of


def _answer(function):
    """What a function returns as JSON, or its refusal."""
    try:
        return JSONResponse(function())
    except _Refused as error:
        return JSONResponse({"error": str(error)}, error.status)
    except UsageError as error:
        return JSONResponse({"error": str(error)}, 400)


def _find(viewers, name):
    try:
        viewer = viewers.get(name)
    except HandgradError as error:
        raise _Refused(404, str(error)) from error
    if viewer is None:
        known = ", ".join(viewers.names())
        raise _Refused(404, f"There is no model '{name}'. Known: {known}")
    return viewer


def _parse(contents):
    try:
        asked = json.loads(contents)
    except (ValueError, RecursionError) as error:
        raise _Refused(400, f"The request is no JSON: {error}") from error
    if not isinstance(asked, dict):
        raise _Refused(400, 'The request must be {"image": ...}. Received: no object')
    return asked


def _given(asked, name):
    """What a request says of `name`."""
    if name not in asked:
        raise _Refused(400, f'The request must be {{"{name}": ...}}. Received: no "{name}"')
    return asked[name]


def _image(asked, shape):
    """The image of a request as float32 (height, width, channels) in [0, 1]."""
    image = _given(asked, "image")
    if isinstance(image, dict):
        return _decode(image, shape)
    try:
        values = np.asarray(image)
    except ValueError:  # rows of different lengths
        values = np.empty(0)
    if values.shape != shape:
        received = f"{values.shape}" if values.size else "rows of different lengths, or none"
        raise UsageError(f'"image" must have shape {shape}. Received: {received}')
    if values.dtype.kind not in "fiu" or not ((values >= 0) & (values <= 1)).all():
        raise UsageError('"image" must hold numbers in [0, 1] (8-bit values divided by 255).')
    return values.astype(np.float32)


def _decode(image, shape):
    """An encoded image, {"b64": ...}, brought to `shape` as those that models are trained on."""
    decoded = images.attempt(
        lambda file: images.decode(file, shape[:2], shape[2]), [_file(image)], "")[0]
    if isinstance(decoded, str):
        raise UsageError(f'"image" cannot be decoded: {decoded}')
    return decoded.astype(np.float32) / 255


def _file(image):
    """The contents of an encoded image, {"b64": ...}, that is not too large to be decoded."""
    try:
        contents = base64.b64decode(image["b64"], validate=True)
    except (TypeError, KeyError, binascii.Error, ValueError) as error:
        raise UsageError('"image" must be {"b64": an image file in base64}.') from error
    try:
        pixels = count_pixels(contents)
    except ValueError as error:
        raise UsageError(f'"image" cannot be decoded: {error}') from error
    if pixels > MAX_PIXELS:
        raise _Refused(413, f"The image has {pixels} pixels, more than the {MAX_PIXELS} allowed.")
    return contents


def _label(asked, viewer):
    """The number of the class that is asked for; None: the most probable one."""
    label = asked.get("label")
    if label is None:
        return None
    if label not in viewer.labels:
        raise UsageError(
            f'"label" must be one of {", ".join(viewer.labels)}. Received: {label!r}')
    return viewer.labels.index(label)


def _looked(viewer, image):
    probabilities, outputs = viewer.look(image)
    if not np.isfinite(probabilities).all():
        raise _Refused(422, f"The model '{viewer.name}' predicts NaN for this image.")
    return probabilities, outputs


def _look(viewer, image, label):
    probabilities, outputs = _looked(viewer, image)
    return {"image": pack(image), "probabilities": probabilities.tolist(),
            "label": viewer.labels[probabilities.argmax()],
            "activations": [pack_maps(output) for output in outputs]}


def _occlusion(viewer, image, label):
    probabilities, _ = _looked(viewer, image)
    label = int(probabilities.argmax()) if label is None else label
    return {"label": viewer.labels[label], "whole": float(probabilities[label]),
            **viewer.occlusion(image, label)}


def _task_answer(viewer, asked):
    """What another task's model says of an image file, or draws, as a picture and a line."""
    if viewer.task == "classify":
        raise UsageError(f"The model '{viewer.name}' classifies: ask it at /look.")
    if viewer.task == "generate":
        seed = _given(asked, "seed")
        if type(seed) is not int or not 0 <= seed < MAX_SEED:
            raise UsageError(f'"seed" must be a whole number from 0 to {MAX_SEED - 1}. '
                             f"Received: {seed!r}")
        picture, line = viewer.generate(seed), ""
    else:
        picture, line = viewer.answer(_file(_given(asked, "image")))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return {"line": line, "picture": base64.b64encode(buffer.getvalue()).decode()}


def _backward(viewer, image, label):
    if viewer.backward is None:
        raise UsageError(f"The model '{viewer.name}' is an export, which has no backward pass. "
                         "`handgrad page RUN` shows that of a run.")
    if label is None:
        label = int(_looked(viewer, image)[0].argmax())
    dx, gradients = viewer.backward(image, label)
    return {"label": viewer.labels[label], "image": pack(dx),
            "gradients": [pack_maps(gradient) for gradient in gradients]}
