"""Figures: what they draw is the data, whatever the data are called."""

import base64
import math
import xml.etree.ElementTree as xml

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from app import figures, gallery, search_figures
from app.evaluation import score
from app.training import best_epoch

HISTORY = [
    {"epoch": 0, "loss": 2.0, "accuracy": 0.3, "val_loss": 1.5, "val_accuracy": 0.5},
    {"epoch": 1, "loss": 1.0, "accuracy": 0.6, "val_loss": 0.7, "val_accuracy": 0.8},
    {"epoch": 2, "loss": 0.5, "accuracy": 0.9, "val_loss": 0.9, "val_accuracy": 0.7},
]


def trial(number, score, curve=(), **values):
    return {"trial": f"{number:02}", "status": "FAILED" if score is None else "COMPLETED",
            "score": score, "values": values, "best_epoch": 1, "epochs": 2, "seconds": 1.0,
            "reason": None, "curve": list(curve)}


TRIALS = [
    trial(0, 0.5, [0.4, 0.5], learning_rate=1e-4, optimizer="sgd", units=32),
    trial(1, None, learning_rate=1.0, optimizer="sgd", units=64),
    trial(2, 0.9, [0.7, 0.9], learning_rate=1e-2, optimizer="adam", units=64),
    trial(3, 0.7, [0.7, 0.6], learning_rate=1e-3, optimizer="adam", units=64, dropout=0.5),
]


def lines(axes):
    """y values of the lines of an axes by their labels."""
    return {line.get_label(): list(line.get_ydata()) for line in axes.lines}


def svg(figure):
    kind, _, content = figures.as_data_uri(figure).partition(",")
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(content).decode()


def texts(figure):
    """What is written in a figure, as a browser reads it."""
    names = ["".join(e.itertext()) for e in xml.fromstring(svg(figure)).iter() if "text" in e.tag]
    return [" ".join(name.split()) for name in names]


def test_learning_curves_are_the_history():
    loss, accuracy = figures.learning_curves(HISTORY).axes
    assert lines(loss)["training"] == [2.0, 1.0, 0.5]
    assert lines(loss)["validation"] == [1.5, 0.7, 0.9]
    assert lines(accuracy)["training"] == [0.3, 0.6, 0.9]
    assert lines(accuracy)["validation"] == [0.5, 0.8, 0.7]
    assert list(loss.lines[0].get_xdata()) == [1, 2, 3]
    assert lines(loss)["best epoch: 2"] == [0.7]
    assert lines(accuracy)["best epoch: 2"] == [0.8]


def test_the_best_epoch_is_the_one_that_training_keeps():
    rows = [{"epoch": float(i), "loss": 1.0, "accuracy": 0.5, "val_loss": loss, "val_accuracy": a}
            for i, (a, loss) in enumerate([(0.8, 0.9), (0.9, 0.5), (0.9, 0.4), (0.7, 0.1)])]
    (axes,) = figures.learning_curves(rows, ["loss"]).axes
    assert best_epoch(rows) == 3
    assert lines(axes)["best epoch: 3"] == [0.4]


def test_learning_curves_without_validation_and_with_nan():
    history = [{"epoch": 4, "loss": math.inf, "accuracy": 0.1},
               {"epoch": 5, "loss": 1.0, "accuracy": 0.2}]
    (loss,) = figures.learning_curves(history, ["loss"]).axes
    assert list(lines(loss)) == ["training"]
    np.testing.assert_array_equal(lines(loss)["training"], [math.nan, 1.0])
    assert list(loss.lines[0].get_xdata()) == [5, 6]


def test_confusion_matrix_shows_counts_and_fractions():
    counts = np.array([[9, 0], [1, 3]])
    (axes,) = figures.confusion_matrix(counts, ["a", "b"]).axes
    cells = axes.images[0].get_array()
    np.testing.assert_allclose(cells[..., 3], np.sqrt([[1, 0], [0.25, 0.75]]))
    assert mpl.colors.to_hex(cells[0, 0]) == mpl.colors.to_hex(cells[1, 1])
    assert mpl.colors.to_hex(cells[0, 0]) != mpl.colors.to_hex(cells[1, 0])
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "9", (0, 1): "1", (1, 1): "3"}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]


def test_confusion_matrix_of_a_hundred_classes_names_them_all():
    counts = np.zeros((100, 100), int)
    counts[3, 5] = 2
    (axes,) = (figure := figures.confusion_matrix(counts, [f"class {i}" for i in range(100)])).axes
    assert axes.images[0].get_array()[3, 5, 3] == 1
    assert not axes.texts
    written = texts(figure)
    assert all(written.count(f"class {i}") == 2 for i in range(100))


@pytest.mark.parametrize("name", ["$x", "a_b$\\frac$", "<b>&", "日本", "%s", "{x}"])
def test_names_are_written_as_they_are(name):
    figure = figures.confusion_matrix(np.eye(2, dtype=int), [name, "other"])
    assert texts(figure).count(name) == 2


def test_mistakes_are_the_worst_with_their_images():
    images = np.arange(4 * 6 * 6, dtype=np.uint8).reshape(4, 6, 6, 1)
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    evaluation = score(np.log(probabilities), np.array([0, 0, 0, 1]), ["ant", "bee"])
    drawn = [axes for axes in figures.mistakes(evaluation, images).axes if axes.images]
    titles = [axes.get_title(loc="left") for axes in drawn]
    assert titles == ["ant, taken for\nbee (80%)", "ant, taken for\nbee (60%)"]
    np.testing.assert_array_equal(drawn[0].images[0].get_array(), images[2, ..., 0])
    np.testing.assert_array_equal(drawn[1].images[0].get_array(), images[1, ..., 0])


def test_no_mistakes_is_an_empty_figure():
    evaluation = score(np.eye(2) * 9, np.arange(2), ["a", "b"])
    figure = figures.mistakes(evaluation, np.zeros((2, 4, 4, 3), np.uint8))
    assert not any(axes.images for axes in figure.axes)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_filters_before_and_after_share_a_scale(channels):
    rng = np.random.default_rng(0)
    before = rng.normal(size=(3, 5, channels, 5))
    after = 4 * before
    pictures = [axes.images[0].get_array() for axes in figures.filters(before, after).axes]
    zoom, gap = figures.ZOOM, figures.GAP
    height, width = 3 * zoom + gap, 5 * zoom + gap
    for picture, kernel in zip(pictures, (before, after)):
        assert picture.shape == (2 * height - gap, 3 * width - gap, 4)
        # Filter 4 lies in the second row, second column; weights are `zoom` pixels wide.
        tile = picture[height:height + 3 * zoom:zoom, width:width + 5 * zoom:zoom]
        weights = kernel[..., 4]
        if channels != 3:
            weights = np.repeat(weights.mean(axis=2, keepdims=True), 3, axis=2)
        np.testing.assert_allclose(tile[..., :3], 0.5 + weights / (2 * np.abs(after).max()))
        assert (tile[..., 3] == 1).all()
        assert (picture[:, width - gap:width, 3] == 0).all()
        assert (picture[height:, 2 * width:, 3] == 0).all()


def test_only_the_first_of_many_filters_are_drawn():
    kernel = np.ones((1, 1, 1, 200))
    picture = figures.filters(kernel, kernel).axes[0].images[0].get_array()
    side = 8 * (figures.ZOOM + figures.GAP) - figures.GAP
    assert figures.MOST_FILTERS == 64 and picture.shape[:2] == (side, side)


def test_filters_that_are_all_zero():
    picture = figures.filters(np.zeros((3, 3, 1, 1)), np.zeros((3, 3, 1, 1))).axes[0].images[0]
    assert (picture.get_array()[..., :3] == 0.5).all()


def test_search_shows_scores_best_and_failures():
    (axes,) = search_figures.search(TRIALS).axes
    drawn = {line.get_label(): line for line in axes.lines}
    assert list(drawn["score"].get_xdata()) == [0, 2, 3]
    assert list(drawn["score"].get_ydata()) == [0.5, 0.9, 0.7]
    assert list(drawn["best so far"].get_ydata()) == [0.5, 0.9, 0.9]
    assert list(drawn["failed"].get_xdata()) == [1]


def test_search_of_failures_alone():
    failures = [trial(0, None), trial(1, math.nan)]
    (axes,) = (figure := search_figures.search(failures)).axes
    assert lines(axes)["score"] == [] and len(lines(axes)["failed"]) == 2
    assert search_figures.best_trial(failures) is None
    assert "failed" in texts(figure)


def test_best_and_searched():
    assert search_figures.best_trial(TRIALS) is TRIALS[2]
    assert search_figures.searched(TRIALS) == ["learning_rate", "optimizer", "units"]


@pytest.mark.parametrize("name, scale, x", [
    ("learning_rate", "log", [1e-4, 1e-2, 1e-3]),
    ("optimizer", "linear", [1, 0, 0]),
    ("units", "linear", [0, 1, 1]),
    ("dropout", "linear", [0.5]),
])
def test_hyper_parameter(name, scale, x):
    (axes,) = search_figures.hyper_parameter(TRIALS, name).axes
    assert axes.get_xscale() == scale
    points, best = axes.lines
    assert list(points.get_xdata()) == x
    assert list(best.get_ydata()) == [0.7 if name == "dropout" else 0.9]


def test_log_scale_is_labelled_with_numbers():
    written = texts(search_figures.hyper_parameter(TRIALS, "learning_rate"))
    assert {"0.0001", "0.001", "0.01"} <= set(written)


def test_few_whole_numbers_are_named_in_their_order():
    (axes,) = search_figures.hyper_parameter(
        [trial(0, 0.1, units=128), trial(1, 0.2, units=16)], "units").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["16", "128"]


def test_validation_curves_mark_the_best():
    (axes,) = search_figures.validation_curves(TRIALS).axes
    assert sorted(list(line.get_ydata()) for line in axes.lines) == [
        [0.4, 0.5], [0.7, 0.6], [0.7, 0.9]]
    assert lines(axes)["best trial: 02"] == [0.7, 0.9]


def test_svg_follows_the_mode_of_the_reader():
    text = svg(figures.learning_curves(HISTORY))
    assert "prefers-color-scheme:dark" in text
    assert "currentColor" in text
    assert text.count(figures.INK) == 1  # in the style element
    assert text == svg(figures.learning_curves(HISTORY))


def test_save_writes_a_picture(tmp_path):
    figures.save(figures.learning_curves(HISTORY), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (9 * 150, 480)
        assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_drawing_leaves_the_settings_of_others_alone():
    before = dict(mpl.rcParams)
    figures.as_data_uri(figures.learning_curves(HISTORY))
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("name", gallery.ACTIVATIONS)
def test_activation_derivatives(name):
    function, derivative = gallery.ACTIVATIONS[name]
    x = np.array([-3.1, -1.2, -0.4, 0.3, 0.9, 2.7])
    slope = (function(x + 1e-6) - function(x - 1e-6)) / 2e-6
    np.testing.assert_allclose(derivative(x, function(x)), slope, atol=1e-8)


def test_gallery_draws():
    for name, draw in figures.GALLERY.items():
        assert len(svg(draw())) > 10_000, name


def test_paths_follow_the_update_rules():
    rules = {0: (0.95, 0), 1: (0.1, 0.9)}
    figure = gallery.optimisers()
    for panel, (rate, momentum) in rules.items():
        point, speed = np.array([-7.0, 2.0]), np.zeros(2)
        path = [point]
        for _ in range(30):
            speed = momentum * speed - rate * np.array([point[0] / 10, 2 * point[1]])
            point = point + speed
            path.append(point)
        drawn = np.stack(figure.axes[panel].lines[0].get_data(), axis=1)
        np.testing.assert_allclose(drawn, path, atol=1e-5)


def test_every_path_comes_nearer():
    for axes in gallery.optimisers().axes:
        path = np.stack(axes.lines[0].get_data(), axis=1)
        assert tuple(path[0]) == (-7, 2)
        assert np.linalg.norm(path[-1]) < 1.5
