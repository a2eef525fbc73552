"""The page in a real browser: drawn on, walked through, given wrong files."""

import contextlib
import io
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import tensorflow as tf
from command_line import ENVIRONMENT
from PIL import Image
from served_models import F, S, save, spec

from app.data import load
from app.images import resize

CHROMIUM = "/usr/bin/chromium"
HANDGRAD = [sys.executable, "-m", "app.cli"]
sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: extra `test`")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"needs Chromium as {CHROMIUM}"),
]
DESKTOP = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "is_mobile": True,
         "has_touch": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a small LeNet-5 has learned the digits."""
    folder = tmp_path_factory.mktemp("page")
    train = ["train", "lenet5", "--data", "digits", "--epochs", "24", "--augment", "shift,rotate",
             "--name", "digits"]
    subprocess.run(HANDGRAD + train, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True)
    return folder


@contextlib.contextmanager
def started(command, folder):
    """The address of a page, once a command serves it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen([*HANDGRAD, *command, "--port", str(port)], cwd=folder,
                          env=ENVIRONMENT) as server:
        try:
            until = time.monotonic() + 120
            while server.poll() is None and time.monotonic() < until:
                with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/page/models"):
                    break
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def address(folder):
    """The page of the run."""
    with started(["page", "digits"], folder) as url:
        yield url


@pytest.fixture(scope="module")
def served_address(folder):
    """The page of its export, at the server of exports."""
    export = ["export", "digits", "--with-activations"]
    subprocess.run(HANDGRAD + export, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True)
    with started(["serve", "saved_models"], folder) as url:
        yield url


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, request):
    """Opens the page on a device; in the end, nothing may have gone wrong in it."""
    contexts, errors = [], []
    address = request.getfixturevalue(getattr(request, "param", "address"))

    def call(shows=".tile .mark", **device):
        contexts.append(chromium.new_context(**(device or DESKTOP)))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: errors.append(request.url)
                if not request.url.startswith((address, "data:", "blob:")) else None)
        page.goto(address)
        page.wait_for_selector(shows)
        return page

    yield call
    for context in contexts:
        context.close()
    assert not errors


def draw(page, *strokes):
    """Strokes on the drawing, in parts of its sides; waits for what the network says."""
    box = page.locator("#drawing").bounding_box()
    for points in strokes:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=6)
        page.mouse.up()


def says(page, label):
    sync_api.expect(page.locator("#says")).to_contain_text(f"It says {label}", timeout=5000)


def arithmetic(page):
    """(what the page computes for the chosen pixel, the layer's value)"""
    result = page.locator("#sum [data-result]").get_attribute("data-result")
    return float(result), float(page.locator("#value").get_attribute("data-value"))


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return {"name": "digit.png", "mimeType": "image/png", "buffer": file.getvalue()}


WIDTHS = "[...document.querySelectorAll('.class i')].map(i => parseFloat(i.style.width))"
CIRCLE = [(0.5 + 0.2 * np.cos(a), 0.5 + 0.33 * np.sin(a)) for a in np.linspace(0, 6.3, 16)]


def test_a_drawn_digit_is_recognised(visit):
    page = visit()
    draw(page, CIRCLE)
    says(page, "0")
    page.click("#clear")
    draw(page, [(0.38, 0.32), (0.52, 0.15), (0.52, 0.85)])
    says(page, "1")
    until = time.monotonic() + 30  # the page's own rules forbid Playwright's way to wait for it
    while page.evaluate(WIDTHS)[1] <= 50 and time.monotonic() < until:
        time.sleep(0.05)
    assert page.evaluate(WIDTHS)[1] > 50
    assert sum(page.evaluate(WIDTHS)) == pytest.approx(100, abs=0.1)


def test_drawing_by_keyboard(visit):
    page = visit()
    page.focus("#drawing")
    for key in ["ArrowUp"] * 8 + ["Space"] + ["ArrowDown"] * 16 + ["Space"]:
        page.keyboard.press(key)
    says(page, "1")


def test_through_the_layers_by_keyboard(visit):
    page = visit()
    page.focus("#slider")
    page.keyboard.press("Home")
    titles = []
    for _ in page.locator(".step").all():
        titles.append(page.inner_text("#title"))
        assert page.locator(".step[aria-current=true] b").inner_text() == titles[-1]
        page.keyboard.press("ArrowRight")
    assert titles == ["image", "resize", "normalize", "C1", "S2", "C3", "S4", "flatten", "C5", "F6",
                      "logits"]


@pytest.mark.parametrize("layer", ["normalize", "C1", "S2", "C3", "S4", "C5", "F6", "logits"])
def test_the_arithmetic_gives_the_value(visit, layer):
    page = visit()
    page.locator(".step", has_text=layer).click()
    tile = page.locator(".tile").last
    box = tile.bounding_box()
    for x, y in ((0.02, 0.03), (0.5, 0.5), (0.97, 0.6)):
        tile.hover(position={"x": x * box["width"], "y": y * box["height"]})
        computed, value = arithmetic(page)
        assert computed == pytest.approx(value, abs=2e-3 * (1 + abs(value)))
    page.locator(".tile[tabindex='0']").focus()
    before = page.inner_text("#value")
    for key in ("ArrowLeft", "ArrowUp", "PageUp"):
        page.keyboard.press(key)
        computed, value = arithmetic(page)
        assert computed == pytest.approx(value, abs=2e-3 * (1 + abs(value)))
    assert page.inner_text("#value") != before
    assert "does more" not in page.inner_text("#inspector")


def test_filters_are_shown(visit):
    page = visit()
    page.locator(".step", has_text="C3").click()
    assert page.locator("#inspector .kernels canvas").count() == 6
    page.locator("#inspector .one").nth(4).hover()
    assert page.locator("#inspector .one.now").get_attribute("title") == "map 5"
    assert "map 5" in page.locator("#inspector figcaption").first.inner_text()
    page.locator("#inspector .one").nth(1).focus()
    assert page.evaluate("document.activeElement.title") == "map 2"
    assert page.locator("#inspector .one.now").get_attribute("title") == "map 2"


def test_the_backward_pass(visit):
    page = visit()
    page.locator(".class").nth(7).click()
    page.click("#gradient")
    sync_api.expect(page.locator("#inspector")).to_contain_text("gradient of the logit of “7”")
    page.locator(".step", has_text="logits").click()
    assert float(page.locator("#value").get_attribute("data-value")) == 1
    page.click("#values")
    assert "gradient" not in page.inner_text("#inspector")


def test_occlusion(visit):
    page = visit()
    page.click("#erase")
    page.wait_for_selector("#cells button")
    assert page.locator("#cells button").count() == 36
    page.locator("#cells button[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert "Without rows 2 to 4 of columns 2 to 4" in page.inner_text("#instead")


@pytest.mark.parametrize("visit", ["served_address"], indirect=True)
def test_an_export_at_the_server(visit):
    """It shows the layers and their arithmetic, and offers no backward pass, which it has not."""
    page = visit()
    draw(page, CIRCLE)
    says(page, "0")
    assert page.locator(".step b").all_inner_texts()[-2:] == ["F6", "logits"]
    for layer in ("C1", "S2", "C3", "logits"):
        page.locator(".step", has_text=layer).click()
        tile = page.locator(".tile").last
        box = tile.bounding_box()
        tile.hover(position={"x": 0.5 * box["width"], "y": 0.4 * box["height"]})
        computed, value = arithmetic(page)
        assert computed == pytest.approx(value, abs=2e-3 * (1 + abs(value)))
    assert page.locator("#gradient").is_hidden()
    page.click("#erase")
    page.wait_for_selector("#cells button")


def brightness(module):
    """To segment: what is bright is of class 1."""
    def of(images):
        return {"mask": tf.cast(images[..., 0] > 0.5, tf.int32), "score": images[..., 0]}

    def of_files(image_bytes):
        return of(tf.map_fn(
            lambda one: tf.image.resize(tf.io.decode_png(one, 1), (32, 32)) / 255, image_bytes,
            fn_output_signature=tf.TensorSpec((32, 32, 1))))

    return {"serving_default": (of, [spec(F, None, 32, 32, 1, name="images")]),
            "image_bytes": (of_files, [spec(S, None, name="image_bytes")])}


def painter(module):
    """To generate: the bits of a seed as an image, so that no two seeds make the same."""
    def of(seed):
        bits = tf.bitwise.right_shift(seed[:, None], tf.range(32)) & 1
        return {"images": tf.cast(tf.reshape(bits, (-1, 4, 8, 1)), F)}

    return {"serving_default": (lambda noise: {"images": noise}, [spec(F, None, 4, name="noise")]),
            "seeds": (of, [spec(tf.int32, None, name="seed")])}


@pytest.fixture(scope="module")
def task_address(tmp_path_factory):
    """A server of two models that do not classify."""
    folder = tmp_path_factory.mktemp("tasks")
    for task, signatures in (("segment", brightness), ("generate", painter)):
        version = folder / "saved_models" / task / "1"
        save(version, signatures)
        (version / "assets").mkdir(exist_ok=True)
        (version / "assets" / "labels.txt").write_text("dark\nbright\n")
        (version / "assets.extra").mkdir()
        (version / "assets.extra" / "model_card.json").write_text(json.dumps({"task": task}))
    with started(["serve", "saved_models"], folder) as url:
        yield url


@pytest.mark.parametrize("visit", ["task_address"], indirect=True)
def test_other_tasks_are_shown_as_pictures(visit):
    page = visit(shows="#picture:not([hidden])")
    assert page.locator("#models").input_value() == "generate" and page.is_hidden("#top")
    first = page.get_attribute("#picture", "src")
    page.click("#others")
    page.wait_for_function("first => document.getElementById('picture').src !== first", arg=first)
    page.select_option("#models", "segment")
    page.wait_for_selector("#choose:not([hidden])")
    assert page.is_hidden("#picture") and page.is_hidden("#others")
    image = np.zeros((32, 32), np.uint8)
    image[:, :8] = 255
    page.set_input_files("#asked", png(image))
    page.wait_for_selector("#picture:not([hidden])")
    assert page.inner_text("#line") == "dark 75.0%, bright 25.0%"
    page.set_input_files("#asked", {"name": "no.png", "mimeType": "image/png", "buffer": b"no"})
    sync_api.expect(page.locator("#message")).to_contain_text("cannot be decoded", timeout=5000)


def test_files(visit):
    page, digits = visit(), load("digits")
    right = 0
    for i in range(5):
        image = resize(digits.test.images[i:i + 1], (32, 32))[0, ..., 0]
        page.set_input_files("#file", files=png(image))
        page.wait_for_timeout(300)
        right += digits.class_names[digits.test.labels[i]] in page.inner_text("#says")
    assert right >= 4
    # Dark on paper is turned round.
    page.set_input_files("#file", files=png(255 - image))
    sync_api.expect(page.locator("#invert")).to_be_checked()


@pytest.mark.parametrize("name, size, reason", [
    ("notes.txt", 100, "is not an image that this browser can read"),
    ("photo.png", 0, "is not an image that this browser can read"),
    ("film.png", 21 * 2**20, "is too big: 21 MB"),
])
def test_wrong_files_are_said(visit, name, size, reason, tmp_path):
    page = visit()
    before = page.inner_text("#says")
    # Dropped, as by hand.
    transfer = page.evaluate_handle(
        """([name, size]) => { const all = new DataTransfer();
        all.items.add(new File([new Uint8Array(size)], name)); return all; }""", [name, size])
    page.dispatch_event("#drawing", "drop", {"dataTransfer": transfer})
    sync_api.expect(page.locator("#message")).to_contain_text(reason)
    assert name in page.inner_text("#message") and page.inner_text("#says") == before
    page.locator("#message button").click()
    sync_api.expect(page.locator("#message")).to_be_hidden()


def test_on_a_phone_in_the_dark(visit):
    page = visit(**PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(17, 20, 24)"
    for layer in ("C1", "C3", "C5"):
        page.locator(".step", has_text=layer).tap()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator(".tile").first.tap()
    computed, value = arithmetic(page)
    assert computed == pytest.approx(value, abs=1e-3 * (1 + abs(value)))


def test_a_server_that_is_gone_is_said(visit):
    page = visit()
    page.route("**/look", lambda route: route.abort())
    page.click("#clear")
    sync_api.expect(page.locator("#message")).to_contain_text("The server does not answer")
