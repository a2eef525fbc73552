"""The commands with --task, from training to an answer over HTTP, on small digit scenes."""

import base64
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from app import scenes, serving
from app.answers import ANSWERS
from app.cli import app
from app.console import execute
from app.pictures import answers
from app.server.loaded import Loaded

# A network of each task, small enough to be trained in seconds.
# Two of them have layers of several tensors.
NETWORKS = {"segment": "segnet-basic", "detect": "faster-rcnn", "describe": "nic"}
MEASURES = {"segment": "mean IoU", "detect": "mAP@0.5", "describe": "sentence accuracy",
            "generate": "FID"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run and an export of each task."""
    folder = tmp_path_factory.mktemp("tasks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(scenes, "PARTS", {"train": 32, "validation": 8, "test": 8})
        for task, model in NETWORKS.items():
            command = (f"train {model} --task {task} --epochs 1 --batch-size 16 --width 0.125 "
                       f"--name {task} --json")
            assert execute(app, command.split()) == 0
            assert execute(app, f"export {task} --json".split()) == 0
            assert execute(app, f"data digit-scenes --task {task} --samples {task}".split()) == 0
        patch.setattr("app.generation.scoring.SEEN", 1200)
        assert execute(app, "train dcgan --task generate --epochs 1 --width 0.25 --name generate "
                            "--json".split()) == 0
        assert execute(app, "export generate --json".split()) == 0
        yield folder


@pytest.fixture
def handgrad(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr(scenes, "PARTS", {"train": 32, "validation": 8, "test": 8})

    def call(line):
        capsys.readouterr()
        code = execute(app, line.split())
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("task", MEASURES)
def test_a_run_is_evaluated_and_shown(place, task):
    """By the training, and again by the export."""
    metrics = json.loads((place / "runs" / task / "metrics.json").read_text())
    assert metrics["test"]["images"] == (2000 if task == "generate" else 8)
    assert metrics["exported"].endswith(f"{task}/1")
    report = (place / "runs" / task / "report.html").read_text()
    assert MEASURES[task] in report
    colours = 11 if task == "segment" else 0
    assert ("Colours" in report) == bool(colours)
    assert report.count("data:image/png;base64,") >= colours + (3 if task == "generate" else 6)


def test_evaluating_again_finds_the_same(handgrad, place):
    code, out, _ = handgrad("evaluate segment --json")
    metrics = json.loads((place / "runs" / "segment" / "metrics.json").read_text())
    assert code == 0 and json.loads(out) == metrics["test"]
    code, out, _ = handgrad("evaluate segment --views flip --json")
    assert code == 0 and 0 < json.loads(out)["mean_iou"] != metrics["test"]["mean_iou"]
    assert json.loads((place / "runs" / "segment" / "metrics.json").read_text()) == metrics


def test_sentences_are_read_by_the_words_that_were_learned(handgrad, place):
    """Data with other words are refused, by whatever name."""
    (place / "said").mkdir(exist_ok=True)
    lines = []
    for i in range(12):
        Image.new("L", (32, 32), 20 * i).save(place / "said" / f"{i}.png")
        lines.append(f"{i}.png#0\tA grey square.")
    (place / "said" / "Flickr8k.token.txt").write_text("\n".join(lines))
    code, _, err = handgrad("evaluate describe --data said")
    assert code == 1 and "has learned the words <pad>" in err and "Received: <pad>" in err


def test_a_generator_is_evaluated_beside_other_images(handgrad):
    code, out, _ = handgrad("evaluate generate --data digits --json")
    assert code == 0 and json.loads(out)["images"] == 2000


def test_a_generator_draws(handgrad, place, tmp_path):
    code, out, _ = handgrad(f"predict saved_models/generate --to {tmp_path} --json")
    assert code == 0 and len(json.loads(out)["drawn"]) == 37
    with Image.open(tmp_path / "007.png") as seventh, Image.open(tmp_path / "all.png") as sheet:
        assert seventh.size == (16, 16) and sheet.size == (6 * 17 - 1, 6 * 17 - 1)
        found = np.asarray(seventh)
    again = serving.load(place / "saved_models" / "generate").draw([7, 8])
    np.testing.assert_array_equal(again[0, ..., 0], found)
    assert (again[0] != again[1]).any()
    loaded = Loaded(place / "saved_models" / "generate" / "1")
    outputs = loaded.call(loaded.signatures["serving_default"],
                          {"noise": np.zeros((2, 100), np.float32)})
    assert outputs["images"].shape == (2, 16, 16, 1)
    assert 0 <= outputs["images"].min() <= outputs["images"].max() <= 1
    assert handgrad("predict saved_models/generate")[0] == 2
    assert handgrad("predict saved_models/segment")[0] == 2


@pytest.mark.parametrize("task", NETWORKS)
def test_an_export_answers_about_files(handgrad, place, task, tmp_path):
    (tmp_path / "no.png").write_bytes(b"no image")
    code, out, _ = handgrad(f"predict saved_models/{task} {task} {tmp_path / 'no.png'} "
                            f"--to {tmp_path / 'drawn'} --json")
    *rows, broken = json.loads(out)["predictions"]
    assert code == 1 and len(rows) == 8 and "error" in broken
    for row in rows:
        with Image.open(row["picture"]) as picture:
            assert picture.width >= 256
        if task == "segment":
            assert sum(row["shares"].values()) == pytest.approx(1)
        elif task == "detect":
            for found in row["objects"]:
                x1, y1, x2, y2 = found["box"]
                assert 0 <= x1 <= x2 <= 64 and 0 <= y1 <= y2 <= 64
                assert found["label"] in "0123456789"
        else:
            assert isinstance(row["sentence"], str) and row["score"] <= 0


@pytest.mark.parametrize("task", NETWORKS)
def test_an_export_answers_as_its_run(handgrad, place, task):
    """The fresh process of the export has compared them; here on other images."""
    from app.runs import Run
    from app.tasks import find_task

    run, kind = Run.open(task), find_task(task)
    data = kind.load("digit-scenes")
    images = (data.test.images[4:] / 255).astype(np.float32)
    expected = kind.answer(run.model(), data.class_names)(images)
    found = serving.load(place / "saved_models" / task).predict(images)
    assert set(found) == set(expected)
    for name, value in found.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(value, expected[name], atol=1e-3)


@pytest.mark.parametrize("task", NETWORKS)
def test_the_server_takes_it(handgrad, place, task):
    loaded = Loaded(place / "saved_models" / task / "1")
    image = next((place / task).glob("*.png")).read_bytes()
    outputs = loaded.call(loaded.signatures["image_bytes"], {"image_bytes": np.array([image])})
    assert all(len(value) == 1 for value in outputs.values())
    assert loaded.signatures.keys() >= {"serving_default", "image_bytes"}


@pytest.fixture(scope="module")
def pages(place):
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from app.page.routes import Viewers, page_router
    from app.page.task_viewer import TaskViewer

    app = FastAPI()
    app.include_router(page_router(Viewers(*(
        TaskViewer(place / "saved_models" / task / "1", task) for task in MEASURES))))
    return TestClient(app)


def picture(reply):
    assert reply.status_code == 200, reply.text
    with Image.open(io.BytesIO(base64.b64decode(reply.json()["picture"]))) as opened:
        return np.asarray(opened)


def test_the_page_shows_each_answer_as_a_picture(place, pages):
    assert {one["name"]: one["task"] for one in pages.get("/page/models").json()} == {
        task: task for task in MEASURES}
    for task in NETWORKS:
        image = next((place / task).glob("*.png")).read_bytes()
        reply = pages.post(f"/page/models/{task}/answer",
                           json={"image": {"b64": base64.b64encode(image).decode()}})
        assert min(picture(reply).shape[:2]) >= 256
        served = serving.load(place / "saved_models" / task)
        row = served.answer(image)
        assert reply.json()["line"] == ANSWERS[task].line(row)
    drawn = [picture(pages.post("/page/models/generate/answer", json={"seed": seed}))
             for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


@pytest.mark.parametrize(("task", "body", "said"), [
    ("segment", {}, 'no "image"'), ("segment", {"image": {"b64": "AAAA"}}, "cannot be decoded"),
    ("segment", {"image": [[0.5]]}, "an image file in base64"), ("generate", {}, 'no "seed"'),
    ("generate", {"seed": -1}, "whole number from 0 to 2147483391. Received: -1"),
    ("generate", {"seed": 2**31}, "Received: 2147483648"), ("detect", [], "no object")])
def test_the_page_says_what_it_cannot_answer(pages, task, body, said):
    reply = pages.post(f"/page/models/{task}/answer", json=body)
    assert reply.status_code == 400 and said in reply.json()["error"]
    reply = pages.post(f"/page/models/{task}/look", json={"image": [[0.5]]})
    assert reply.status_code == 400 and "ask it at /answer" in reply.json()["error"]


def test_boxes_of_a_file_are_in_its_own_pixels(place):
    """Files are stretched to the network's size, so that nothing of them is cut off.

    The best box of the one is among those of the other, whose pixels differ by rounding.
    """
    served = serving.load(place / "saved_models" / "detect")
    with Image.open(next((place / "detect").glob("*.png"))) as image:
        own = served.answer(_png(image))["answer"]
        wide = served.answer(_png(image.resize((4 * image.width, 2 * image.height),
                                               Image.Resampling.NEAREST)))["answer"]
    assert own["count"] > 0
    distances = np.abs(wide["boxes"][:wide["count"]] - own["boxes"][0] * (4, 2, 4, 2)).max(1)
    assert distances.min() < 8, distances
    assert wide["boxes"][:wide["count"], 2].max() > 2 * 64


@pytest.mark.parametrize(("size", "drawn"), [((6000, 1), (1280, 1)), ((2600, 1300), (1280, 640)),
                                             ((640, 480), (640, 480)), ((32, 16), (640, 320))])
def test_pictures_of_boxes_are_of_a_size_to_be_seen(place, size, drawn):
    served = serving.load(place / "saved_models" / "detect")
    answer = {"boxes": np.array([[0, 0, *size]]), "scores": np.ones(1), "classes": np.zeros(1, int)}
    picture = answers.draw(served, _png(Image.new("L", size)), answer)
    assert picture.size == drawn
    x, y = picture.width - 1, picture.height - 1
    assert y < 30 or picture.getpixel((x - 1, y - 1)) == picture.getpixel((0, y // 2))  # the box


def _png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_what_a_task_lacks_is_said_in_a_line(handgrad):
    for line, said in (
            ("train unet --task segments", "segment"),
            ("train lenet5 --task segment", "'lenet5' is for --task classify"),
            ("train unet", "'unet' is for --task segment"),
            ("train dcgan --task generate --from generate --name g", "cannot start from another"),
            ("train dcgan --task generate --whiten zca --name g", "--whiten is not for"),
            ("train nic --task describe --skip-corrupt --name d", "--skip-corrupt is for"),
            ("train unet --task segment --label-smoothing 0.1", "--label-smoothing"),
            ("run --task segment --objective val_accuracy", "val_mean_iou"),
            ("run --task detect --folds 3", "--folds"),
            ("run --task detect --craft", "--craft"),
            ("run --task segment --data nowhere", "digit-scenes"),
            ("export segment --format onnx", "--format"),
            ("train dcgan --task generate --epochs 1 --lean int8 --name rounded", "--lean int8"),
            ("evaluate detect --views flip", "--views"),
            ("ensemble segment detect --name both", "classif")):
        code, _, err = handgrad(line)
        assert code == 2 and said in err and len(err.strip().splitlines()) == 1, (line, err)


def test_a_run_of_a_task_is_gone_on_with(handgrad, place):
    shutil.copytree(place / "runs" / "segment", place / "runs" / "again")
    code, out, _ = handgrad("train segnet-basic --task segment --batch-size 16 --width 0.125 "
                            "--name again --json --epochs 2 --resume")
    assert code == 0 and json.loads(out)["epochs"] == 2
    assert json.loads(out)["test_mean_iou"] >= 0
