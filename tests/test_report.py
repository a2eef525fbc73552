"""The report: one self-contained page, its parts there when their inputs are."""

import base64
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from app import data as app_data
from app.evaluation import score
from app.report import write_report

SCRIPT = "<script>alert('x')</script>"
LOADS = {"src", "href", "srcset", "poster", "data", "action", "background", "xlink:href"}


class Page(HTMLParser):
    """What a page holds: its tags, ids, addresses and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.addresses, self.attributes, self.said = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.ids += [value for name, value in attributes if name == "id"]
        self.addresses += [value for name, value in attributes if name in LOADS]

    def handle_data(self, text):
        self.said.append(text)

    @property
    def text(self):
        return " ".join("".join(self.said).split())


@pytest.fixture(scope="module")
def digits():
    return app_data.load("digits")


@pytest.fixture(scope="module")
def inputs(digits):
    """Everything that a report can show; 30 of the test images are classified wrongly."""
    rng = np.random.default_rng(0)
    labels = digits.test.labels
    logits = 4 * np.eye(10)[labels] + rng.normal(size=(len(labels), 10)) / 10
    logits[:30] = np.roll(logits[:30], 1, axis=1)
    curve = [0.5, 0.9]
    values = {"learning_rate": 1e-3, "optimizer": "adam"}
    return {
        "config": {"model": "lenet5", "epochs": 2, "augment": None,
                   "sizes": {"filters": (6, 16), "dropout": 0.123456}},
        "history": [{"epoch": i, "loss": 1.0 - i / 2, "accuracy": a, "val_loss": 1.0,
                     "val_accuracy": a} for i, a in enumerate(curve)],
        "evaluation": score(logits, labels, digits.class_names),
        "data": digits,
        "model_summary": [("conv1", (None, 8, 8, 6), 60), ("logits", (None, 10), 3850)],
        "initial_filters": rng.normal(size=(3, 3, 1, 6)),
        "final_filters": rng.normal(size=(3, 3, 1, 6)),
        "trials": [
            {"trial": "00", "status": "COMPLETED", "score": 0.9, "values": values,
             "best_epoch": 2, "epochs": 2, "seconds": 3.0, "reason": None, "curve": curve},
            {"trial": "01", "status": "COMPLETED", "score": 0.8,
             "values": {"learning_rate": 1e-1, "optimizer": "sgd"},
             "best_epoch": 1, "epochs": 2, "seconds": 3.0, "reason": None, "curve": [0.8, 0.7]},
            {"trial": "02", "status": "FAILED", "score": None, "values": values,
             "best_epoch": None, "epochs": 0, "seconds": 1.0, "reason": "out of memory",
             "curve": []},
        ],
        "export": "saved_models/digits/3",
        "seconds": {"search": 75.0, "training": 4.25},
    }


def write(folder, inputs, **changes):
    path = write_report(folder, **(inputs | changes))
    return path, Page(path.read_text(encoding="utf-8"))


PARTS = ["data", "training", "search", "classes", "mistakes", "filters", "parameters", "time",
         "use", "settings"]


def test_everything_is_shown(tmp_path, inputs):
    path, page = write(tmp_path, inputs)
    assert page.ids == PARTS
    assert [path.name] == [entry.name for entry in tmp_path.iterdir()]
    for part in (
        "88.89 % test accuracy", "270 test images, 30 of them", f"{inputs['evaluation'].loss:.4f}",
        "1257 to train on, 270 to validate, 270 to test", "lenet5 on digits", tmp_path.name,
        "3 trials, 2 of them completed", "Best: trial 00 with 0.9000", "failed: out of memory",
        "3,910", "8 × 8 × 6", "1 min 15 s", "4.2 s", "1 min 19 s", "The 6 filters",
        "filters: 6, 16, dropout: 0.1235",
        "tensorflow 2.", "keras 3.", "handgrad 0.", "Python 3.",
    ):
        assert part in page.text, part
    assert path.stat().st_size < 1_500_000


@pytest.mark.parametrize("part, changes", [
    ("training", {"history": []}),
    ("search", {"trials": None}),
    ("filters", {"initial_filters": None}),
    ("filters", {"final_filters": None}),
    ("use", {"export": None}),
])
def test_a_part_without_input_is_left_out(tmp_path, inputs, part, changes):
    _, page = write(tmp_path, inputs, **changes)
    assert page.ids == [name for name in PARTS if name != part]
    assert f"#{part}" not in page.addresses


def test_every_link_of_the_page_leads_somewhere(tmp_path, inputs):
    _, page = write(tmp_path, inputs)
    assert [a[1:] for a in page.addresses if a.startswith("#")] == page.ids


def test_no_mistakes_are_said(tmp_path, inputs, digits):
    perfect = score(np.eye(10)[digits.test.labels] * 9, digits.test.labels, digits.class_names)
    _, page = write(tmp_path, inputs, evaluation=perfect)
    assert "None: every test image was classified rightly" in page.text
    assert "100.00 % test accuracy" in page.text


def test_failed_trials_alone(tmp_path, inputs):
    _, page = write(tmp_path, inputs, trials=inputs["trials"][2:])
    assert "1 trials, 0 of them completed" in page.text and "Best:" not in page.text


def test_nothing_is_loaded_from_elsewhere(tmp_path, inputs):
    path, page = write(tmp_path, inputs)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert not re.search(r"@import|url\(", path.read_text())
    for address in page.addresses:
        assert address.startswith(("#", "data:image/png;base64,", "data:image/svg+xml;base64,"))
        kind, _, content = address.partition(",")
        if "svg" in kind:
            inside = Page(base64.b64decode(content).decode())
            assert all(a.startswith(("#", "data:")) for a in inside.addresses)
            assert "script" not in inside.tags


def test_what_users_wrote_is_escaped(tmp_path, inputs, digits):
    names = (SCRIPT, "a & b", '"quoted"', *digits.class_names[3:])
    files = tuple(f"{SCRIPT}/{i}.png" for i in range(len(digits.test)))
    data = replace(digits, name=SCRIPT, class_names=names, test=replace(digits.test, files=files))
    evaluation = replace(inputs["evaluation"], class_names=names)
    trials = [inputs["trials"][0] | {"values": {SCRIPT: SCRIPT}, "reason": SCRIPT, "trial": SCRIPT}]
    trials.append(trials[0] | {"values": {SCRIPT: "other"}})
    _, page = write(
        tmp_path, inputs, data=data, evaluation=evaluation, trials=trials,
        config={SCRIPT: SCRIPT}, seconds={SCRIPT: 1.0}, export=f"models/{SCRIPT}'/1",
        model_summary=[(SCRIPT, SCRIPT, 1)],
    )
    assert "script" not in page.tags
    assert page.ids == PARTS
    assert page.text.count(SCRIPT) > 10
    attributes = [value for _, value in page.attributes if value and SCRIPT in value]
    assert any(value.endswith("/0.png") for value in attributes)
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_commands_name_the_export(tmp_path, inputs):
    page = write(tmp_path, inputs)[1].text
    assert "handgrad predict saved_models/digits image.png" in page
    assert "tf.saved_model.load('saved_models/digits/3')" in page
    assert "curl -d @- http://localhost:8501/v1/models/digits:predict" in page


def test_commands_survive_a_folder_with_odd_characters(tmp_path, inputs):
    folder = tmp_path / "my models" / "it's" / "1"
    path, page = write(tmp_path, inputs, export=folder)
    (command,) = re.findall(r"handgrad predict .*", "".join(page.said))
    assert shlex.split(command) == ["handgrad", "predict", str(folder.parent), "image.png"]
    (python,) = re.findall(r"tf\.saved_model\.load\((.*)\)", "".join(page.said))
    assert eval(python) == str(folder)


def test_the_python_lines_are_python(tmp_path, inputs):
    said = "".join(write(tmp_path, inputs)[1].said)
    compile(said[said.index("import tensorflow"):said.index("Over HTTP")], "report", "exec")


def test_images_of_any_size_and_colour(tmp_path, inputs):
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(270, 50, 300, 3)).astype(np.uint8)
    digits = inputs["data"]
    data = replace(digits, **{
        part: replace(split, images=images[np.arange(len(split)) % 270])
        for part, split in digits.splits.items()
    })
    path, page = write(tmp_path, inputs, data=data)
    assert "50 × 300 × 3" in page.text
    assert path.stat().st_size < 1_500_000


def test_a_report_replaces_the_one_before(tmp_path, inputs):
    before = write(tmp_path, inputs)[0].read_bytes()
    path, page = write(tmp_path, inputs, trials=None)
    assert path.read_bytes() != before and "search" not in page.ids
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_file_names_that_are_no_text(tmp_path, inputs, digits):
    files = tuple(f"\udcff{i}.png" for i in range(len(digits.test)))
    _, page = write(tmp_path, inputs, data=replace(digits, test=replace(digits.test, files=files)))
    assert ("title", "?0.png") in page.attributes
