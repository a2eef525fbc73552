"""The command line: output, exit codes, one line for whatever is wrong."""

import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from command_line import ENVIRONMENT, RUN
from PIL import Image

from app.cli import app
from app.console import execute
from app.runs import read_json

COMMANDS = ("run", "tune", "train", "evaluate", "export", "predict", "check", "figures", "data",
            "models", "layers", "recipe", "study", "baseline", "ensemble", "serve", "page")


@pytest.fixture
def result(handgrad):
    """The JSON object of a command that succeeds."""
    def call(*arguments):
        code, out, err = handgrad(*arguments, "--json")
        assert code == 0, err
        assert out.count("\n") == 1
        return json.loads(out)

    return call


# Help


def test_help_of_every_command_without_tensorflow():
    program = f"""
import sys
from app.cli import app
from app.console import execute
from app.runs import read_json
for command in {COMMANDS}:
    assert execute(app, [command, "--help"]) == 0
assert execute(app, ["--help"]) == 0
print(sorted({{"tensorflow", "keras", "numpy", "matplotlib"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    helps, last = done.stdout.rsplit("\n", 2)[:2]
    assert last == "[]"
    assert helps.count("Usage: handgrad") == len(COMMANDS) + 1
    for command in COMMANDS:
        assert f"Usage: handgrad {command} " in helps


def test_no_command_at_all(capsys):
    assert execute(app, []) == 0
    assert "Usage: handgrad" in capsys.readouterr().out
    assert execute(app, ["--version"]) == 0
    assert re.fullmatch(r"handgrad \d+\.\d+\S*\n", capsys.readouterr().out)


def test_no_command_is_missing_here():
    assert {c.name or c.callback.__name__ for c in app.registered_commands} == set(COMMANDS)


# Results


def test_run_as_json(place, result):
    value = result(*RUN, "--resume")
    assert (value["trials"], value["failed"]) == (2, 0)
    assert value["exported"].endswith("saved_models/whole/1")
    assert (place / value["report"]).is_file() and (place / value["model"]).is_file()
    assert type(value["parameters"]) is int and 0 < value["test_accuracy"] <= 1
    assert set(value["seconds"]) == {"search", "training"}
    assert all(type(s) is float and s > 0 for s in value["seconds"].values())
    assert value["best"]["score"] == max(value["best"]["curve"])


def test_a_finished_run_is_not_done_again(place, handgrad):
    kept = {path: path.stat().st_mtime_ns for path in place.glob("runs/whole/**/*")
            if path.name in ("best.keras", "history.csv", "records.json", "journal.jsonl")}
    assert len(kept) == 4 + 2  # the histories of two trials
    code, out, err = handgrad(*RUN, "--resume")
    assert code == 0, err
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert [p.name for p in (place / "saved_models" / "whole").iterdir()] == ["1"]
    assert re.fullmatch(r"test accuracy: [01]\.\d{4}", out.splitlines()[-1])
    assert "SavedModel" in out and "trials" in out


def test_the_files_of_a_run(place):
    names = {path.name for path in (place / "runs" / "whole").iterdir()}
    assert names >= {"config.json", "training.json", "history.csv", "logs", "best.keras",
                     "metrics.json", "report.html", "trials.csv", "best.json", "trials.png"}
    assert "initial_filters.npy" not in names  # an MLP has none
    made = read_json(place / "runs" / "whole" / "training.json")
    best = read_json(place / "runs" / "whole" / "best.json")
    assert made["epochs"] == best["best_epoch"] and made["on_train_and_validation"]
    assert made["sizes"] == best["settings"]["sizes"]


def test_train_as_json_and_as_a_table(place, handgrad, result):
    again = "train mlp --data small.npz --epochs 3 --name trained --resume".split()
    value = result(*again)
    assert value["epochs"] == 3 and 1 <= value["best_epoch"] <= 3
    assert type(value["parameters"]) is int and type(value["test_loss"]) is float
    code, out, _ = handgrad(*again)
    assert code == 0 and out.splitlines()[-1] == f"test accuracy: {value['test_accuracy']:.4f}"


def test_evaluate(place, result):
    value = result("evaluate", "whole")
    metrics = read_json(place / "runs" / "whole" / "metrics.json")
    assert value["accuracy"] == metrics["test"]["accuracy"]
    assert metrics["exported"].endswith("whole/1"), "an evaluation forgot the export"
    assert result("evaluate", "runs/whole", "--data", place / "small.npz") == value


def test_evaluate_on_several_views_leaves_the_run_s_own_result(place, result):
    kept = (place / "runs" / "whole" / "metrics.json").read_bytes()
    plain, viewed = result("evaluate", "whole"), result("evaluate", "whole", "--views", "shift")
    assert viewed["loss"] != plain["loss"] and viewed["accuracy"] > 0.1
    assert (place / "runs" / "whole" / "metrics.json").read_bytes() == kept


def test_evaluate_from_anywhere(place, result, tmp_path, monkeypatch):
    """The data's path was relative; a run knows where they are."""
    expected = result("evaluate", "trained")
    monkeypatch.chdir(tmp_path)
    assert result("evaluate", place / "runs" / "trained") == expected


def test_export_and_predict(place, result, handgrad):
    value = result("export", "trained", "--name", "mine", "--to", "models")
    assert value["exported"] == "models/mine/1"
    rows = result("predict", "models/mine", "photos/a", "photos/b/1.png")["predictions"]
    assert len(rows) == 9 and all(set(row) >= {"file", "label", "score"} for row in rows)
    code, out, _ = handgrad("predict", "models/mine", "photos/a/0.png", "small.npz")
    assert code == 1 and "photos/a/0.png" in out and "small.npz" in out


def test_check_one_layer(handgrad, result):
    (row,) = result("check", "Flatten")["layers"]
    assert row["ok"] and set(row["error"]) == {"eager", "graph", "xla"}
    assert max(row["error"].values()) <= 1e-6 and row["tensors"] >= 1
    code, out, _ = handgrad("check", "Flatten")
    assert code == 0 and "Flatten" in out


def test_lists(result):
    models = {row["name"]: row for row in result("models")["models"]}
    assert models["lenet5"]["parameters"] == 61_706
    layers = {row["name"]: row for row in result("layers")["layers"]}
    assert layers["Dense"]["replaces"] == "keras.layers.Dense"
    assert layers["Step"]["replaces"] is None
    assert set(result("data")["data_sets"]) == {"digits", "mnist", "fashion_mnist", "cifar10"}
    described = result("data", "small.npz")
    assert sum(described["counts"].values()) == 120


def test_samples_for_a_first_prediction(result, handgrad, tmp_path):
    result("data", "digits", "--samples", tmp_path / "new")
    assert [p.stem for p in sorted((tmp_path / "new").glob("*.png"))] == list("0123456789")
    code, _, err = handgrad("data", "--samples", tmp_path)
    assert code == 2 and "--samples needs a data set" in err


def test_tables_keep_names_that_look_like_markup(place, handgrad):
    with np.load(place / "small.npz") as arrays:
        np.savez(place / "odd.npz", **arrays, class_names=["[red]", ":dog:", "[/]"])
    code, out, err = handgrad("data", "odd.npz")
    assert code == 0 and "[red]" in out and ":dog:" in out and "[/]" in out


def test_figures(result, tmp_path):
    value = result("figures", "activations", "--to", tmp_path / "new")
    assert [Path(p).stat().st_size > 1000 for p in value["figures"]] == [True]


# What is wrong


@pytest.mark.parametrize("arguments, code, message", [
    ("run --data digit", 2, "Unknown data set 'digit'. Did you mean 'digits'?"),
    ("run --model lenet", 2, "Unknown search space 'lenet'. Did you mean 'lenet5'?"),
    ("run --model perceptron", 2, "Unknown search space 'perceptron'"),
    ("run --tuner bayes", 2, "Unknown tuner 'bayes'. Did you mean 'bayesian'?"),
    ("run --trials 0", 2, "--trials must be at least 1. Received: 0"),
    ("run --augment flop", 2, "Unknown augmentation 'flop'. Did you mean 'flip'?"),
    ("tune mpl", 2, "Unknown search space 'mpl'. Did you mean 'mlp'?"),
    ("train lenet", 2, "Unknown model 'lenet'. Did you mean 'lenet5'?"),
    ("train mlp --optimizer adams", 2, "Unknown optimizer 'adams'. Did you mean 'adam'?"),
    ("train mlp --schedule cosin", 2, "Unknown schedule 'cosin'. Did you mean 'cosine'?"),
    ("train mlp --learning-rate 0", 2, "--learning-rate must be above 0. Received: 0.0"),
    ("train mlp --learning-rate -1", 2, "--learning-rate must be above 0. Received: -1.0"),
    ("train mlp --epochs 0", 2, "--epochs must be at least 1. Received: 0"),
    ("train mlp --epochs two", 2, "Invalid value for '--epochs': "),
    ("train mlp --batch-size -1", 2, "--batch-size must be at least 0. Received: -1"),
    ("train mlp --width 2", 2, "The network 'mlp' has no setting 'width'. It has: hidden, "),
    ("train nin --width -1", 2, "`width`, the factor of all channels, must be above 0"),
    ("train vgg-d --data small.npz", 2, "VGG D needs images of at least 32x32 pixels (five 2x2 "
     "pools: 32, 16, 8, 4, 2, 1). Received: 8x8. Enlarge them with --image-size 32"),
    ("train mlp --from nowhere --name tuned", 2, "Unknown run 'nowhere'"),
    ("train mlp --freeze 1", 2, "need --from RUN"),
    ("train mlp --data small.npz --from trained --freeze 3 --name tuned", 2,
     "--freeze must be 0 to 2, the layers with weights below the head of 'mlp'. Received: 3"),
    ("train lenet5 --data small.npz --from trained --name tuned", 2, "layer 'C1'"),
    ("train mlp --warmup 8", 2, "--warmup must be at least 0 and below the 8 epochs"),
    ("train mlp --patience 0", 2, "--patience must be at least 1. Received: 0"),
    ("train mlp --epoch 2", 2, "No such option: --epoch"),
    ("train", 2, "Missing argument '"),
    ("trian mlp", 2, "No such command 'trian'"),
    ("train mlp --seed -1", 2, "seed must be a whole number in 0 .. 2**32 - 1. Received: -1"),
    ("train mlp --image-size 12x", 2, "as in 128 or 360x480. Received: 12x"),
    ("train mlp --image-size 12x0", 2, "(height, width). Received: [12, 0]"),
    ("train mlp --image-size 0", 2, "image size must be a positive whole number"),
    ("train mlp --data small.npz --batch-size 1000", 2, "batch size must be 1 to 84"),
    ("train simpleconvnet --data small.npz --image-size 5", 2,
     "SimpleConvNet needs images of at least 6x6 pixels (5x5 kernel, then 2x2 pool). "
     "Received: 5x5."),
    ("train mlp --data small.npz --name a/b", 2, "--name must be letters"),
    ("train mlp --data small.npz --name trained", 2,
     "A run 'trained' exists in runs/trained. Continue it with --resume, replace it with "
     "--overwrite, or choose another --name."),
    ("run --model mlp --data small.npz --name whole", 2, "A run 'whole' exists in runs/whole."),
    ("train mlp --data small.npz --name trained --resume --batch-size 8", 2,
     "batch_size was 32, is 8"),
    ("train mlp --data small.npz --name whole --resume", 2, "search was True, is False"),
    ("train mlp --data twin.npz --name trained --resume", 2, "data was "),
    ("train mlp --resume --overwrite", 2, "--resume and --overwrite exclude each other"),
    ("train mlp --data nowhere/photos", 2, "nowhere/photos does not exist"),
    ("train mlp --data empty", 1, "empty must hold at least two class folders"),
    ("train mlp --data one", 1, "one must hold at least two class folders"),
    ("train mlp --data corrupt", 1, "corrupt cannot be used: a/bad.png"),
    ("train mlp --data unvalidated", 1, "class"),
    ("train mlp --data labels.npz", 1, "must be 0, 1, 2"),
    ("train mlp --data keys.npz", 1, "must hold x_train and y_train"),
    ("train mlp --data nan.npz", 1, "hold NaN or infinity, first in image 7"),
    ("train mlp --data magic-images-idx3-ubyte", 1, "must begin with the magic number 2051"),
    ("train mlp --optimizer sgd --learning-rate 1e30 --data small.npz --name wild", 1,
     "Training diverged: loss is"),
    ("evaluate whole --views turn", 2, "Unknown view 'turn'. Known: flip, shift"),
    ("evaluate wholes", 2, "Unknown run 'wholes'. Did you mean 'whole'?"),
    ("evaluate whole --data digits", 1, "tells apart the classes 0, 1, 2. Received: 0, 1, 2, 3"),
    ("export trained --name 12", 2, "The name of an export must be"),
    ("export trained --to small.npz", 1, "could not be written to small.npz"),
    ("predict nowhere x.png", 2, "nowhere"),
    ("check Dens", 2, "Unknown layer 'Dens'. Did you mean 'Dense'?"),
    ("layers lstmm", 2, "Unknown layer 'lstmm'. Did you mean 'LSTM'?"),
    ("figures activation", 2, "Unknown figure 'activation'. Did you mean 'activations'?"),
    ("data nowhere.npz", 2, "nowhere.npz does not exist"),
])
def test_wrong_input_is_one_line(place, handgrad, bad_data, arguments, code, message):
    before = sorted(place.glob("runs/*/*"))
    received, out, err = handgrad(*arguments.split())
    assert received == code, err
    assert out == ""
    *progress, line = err.splitlines()
    assert line.startswith("handgrad: ") and message in line
    assert "Traceback" not in err
    if "--name wild" not in arguments:
        assert not progress
        assert sorted(place.glob("runs/*/*")) == before


@pytest.fixture(scope="module")
def bad_data(place):
    (place / "empty").mkdir()
    for name in ("one/a", "corrupt/a", "corrupt/b", "unvalidated/a", "unvalidated/b"):
        (place / name).mkdir(parents=True)
        for i in range(8 if "/a" in name else 1 if "unvalidated" in name else 8):
            Image.new("L", (8, 8), i).save(place / name / f"{i}.png")
    (place / "corrupt" / "a" / "bad.png").write_bytes(b"no image")
    with np.load(place / "small.npz") as arrays:
        images, labels = arrays["images"], arrays["labels"]
    np.savez(place / "labels.npz", images=images, labels=labels - 1)
    np.savez(place / "twin.npz", images=images, labels=labels)
    np.savez(place / "keys.npz", x=images, y=labels)
    broken = images / 255
    broken[7, 0, 0] = np.nan
    np.savez(place / "nan.npz", images=broken, labels=labels)
    (place / "magic-images-idx3-ubyte").write_bytes(bytes(16))
    (place / "magic-labels-idx1-ubyte").write_bytes(bytes(8))


def test_corrupt_images_are_left_out_on_request(place, bad_data, result):
    assert result("data", "corrupt", "--skip-corrupt")["skipped"] == ["corrupt/a/bad.png"]


def test_no_network(handgrad, monkeypatch):
    def load_data():
        raise Exception("URL fetch failure on https://...: None -- no route to host")

    monkeypatch.delenv("HANDGRAD_DATA", raising=False)
    monkeypatch.setattr(keras.datasets.mnist, "load_data", load_data)
    code, out, err = handgrad("train", "mlp", "--data", "mnist")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "HANDGRAD_DATA" in err and "digits" in err


def test_an_overwriting_run_that_cannot_start_loses_nothing(place, handgrad):
    for wrong in (("--optimizer", "x"), ("--batch-size", "99999"), ("--data", "nowhere")):
        code, _, _ = handgrad("train", "mlp", "--data", "small.npz", "--name", "trained",
                              "--overwrite", *wrong)
        assert code == 2 and (place / "runs" / "trained" / "best.keras").exists()


def test_debug_shows_the_traceback(here):
    with pytest.raises(Exception, match="Unknown model"):
        execute(app, ["train", "lenet", "--debug"])


def test_running_out_of_memory_says_so(handgrad, monkeypatch):
    def fit(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("app.training.fit", fit)
    code, _, err = handgrad("train", "mlp", "--data", "small.npz", "--name", "large")
    assert code == 1 and "Out of memory. Use a smaller --batch-size or --image-size." in err


def test_images_of_two_sides_are_those_of_the_run(place, result):
    command = "train mlp --data small.npz --image-size 9x12 --epochs 1 --name sides".split()
    result(*command)
    assert read_json(place / "runs" / "sides" / "config.json")["image_size"] == [9, 12]
    assert result("evaluate", "sides")["images"] > 0
    assert result(*command, "--resume")["epochs"] == 1


def test_lean_training_says_what_a_batch_keeps(place, result, handgrad):
    value = result(*"train lenet5 --data small.npz --epochs 2 --lean int8 --name leanly".split())
    assert 0 < value["memory"]["lean"] < 0.3 * value["memory"]["stock"]
    run = place / "runs" / "leanly"
    assert read_json(run / "config.json")["lean"] == "int8"
    assert "Bytes kept by layer" in (run / "report.html").read_text()
    code, _, err = handgrad(*"train lenet5 --data small.npz --lean int4 --name no".split())
    assert code == 2 and "int4" in err and "int8" in err
