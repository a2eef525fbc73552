"""Callbacks and files of a lean view: what is written is the original model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_lean_training import IMAGES, LABELS, from_logits, identity, network, sgd

from custom_layers.lean import lean

X, T = IMAGES.astype("float32"), LABELS


def compiled(view_of=lean):
    keras.utils.set_random_seed(0)
    model = network()
    view = view_of(model)
    view.compile(sgd(), from_logits(), metrics=["accuracy"], jit_compile=False)
    return model, view


def fit(view, *callbacks, epochs=2):
    return view.fit(X, T, batch_size=5, epochs=epochs, validation_data=(X[:8], T[:8]),
                    shuffle=False, callbacks=list(callbacks), verbose=0).history


def assert_is(loaded, model):
    """A loaded model has the original's layers, and computes what it computes."""
    assert type(loaded) is type(model)
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    np.testing.assert_array_equal(loaded(X), model(X))


def test_a_checkpoint_is_the_original(tmp_path):
    model, view = compiled()
    fit(view, keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"))
    assert_is(keras.models.load_model(tmp_path / "2.keras"), model)
    loaded = keras.models.load_model(tmp_path / "2.keras")
    # It goes on training where the view stopped, with the view's optimizer.
    assert type(loaded.optimizer) is keras.optimizers.SGD
    assert int(loaded.optimizer.iterations) == 8
    fit(loaded, epochs=1)


def test_the_best_checkpoint_by_a_validation_loss(tmp_path):
    model, view = compiled()
    history = fit(view, keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor="val_loss", save_best_only=True), epochs=3)
    loaded = keras.models.load_model(tmp_path / "best.keras")
    found = loaded.evaluate(X[:8], T[:8], verbose=0)[0]
    np.testing.assert_allclose(found, min(history["val_loss"]), rtol=1e-5)


def test_a_checkpoint_of_weights_is_the_original_s(tmp_path):
    model, view = compiled()
    fit(view, keras.callbacks.ModelCheckpoint(
        tmp_path / "w.weights.h5", save_weights_only=True))
    other = network()
    other.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_array_equal(other(X), model(X))


def test_saving_the_view_saves_the_original(tmp_path):
    model, view = compiled()
    fit(view, epochs=1)
    view.save(tmp_path / "view.keras")
    assert_is(keras.models.load_model(tmp_path / "view.keras"), model)


def files(model, folder):
    """What the model saves and exports: architecture, weights, served outputs."""
    model.save(folder / "m.keras")
    model.save_weights(folder / "m.weights.h5")
    model.export(folder / "export", verbose=False)
    loaded, served = keras.models.load_model(folder / "m.keras"), tf.saved_model.load(
        str(folder / "export"))
    return (model.to_json(), (folder / "m.weights.h5").read_bytes(), loaded.to_json(),
            [w.tobytes() for w in loaded.get_weights()], served.serve(X).numpy().tobytes(),
            sorted(loaded.optimizer.get_config().items(), key=str))


def test_what_the_original_saves_and_exports_is_unchanged(tmp_path):
    model, _ = compiled(identity)
    fit(model, epochs=1)
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    before = files(model, tmp_path / "before")
    view = lean(model, save="int8", budget=0.5, seed=1)
    view(X, training=False)
    view.predict(X, verbose=0)
    assert files(model, tmp_path / "after") == before


@pytest.mark.parametrize("make", [
    lambda folder: keras.callbacks.EarlyStopping(
        "val_loss", patience=1, restore_best_weights=True, min_delta=10.0),
    lambda folder: keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / (epoch + 2)),
    lambda folder: keras.callbacks.ReduceLROnPlateau("val_loss", patience=1, min_delta=10.0),
    lambda folder: keras.callbacks.TerminateOnNaN(),
    lambda folder: keras.callbacks.CSVLogger(folder / "log.csv"),
    lambda folder: keras.callbacks.BackupAndRestore(folder / "backup"),
    lambda folder: keras.callbacks.TensorBoard(
        folder / "logs", write_graph=True, histogram_freq=1, profile_batch=0),
], ids=["early stopping", "schedule", "plateau", "nan", "csv", "backup", "tensorboard"])
def test_callbacks_do_what_they_do_with_stock(make, tmp_path):
    results = []
    for i, view_of in enumerate((identity, lean)):
        folder = tmp_path / str(i)
        folder.mkdir()
        callback = make(folder)
        model, view = compiled(view_of)
        history = fit(view, callback, epochs=4)
        written = sorted(p.name for p in folder.rglob("*.csv"))
        results.append((history, model.get_weights(), written))
    (expected, weights, written), (found, ours, lean_written) = results
    assert found.keys() == expected.keys() and written == lean_written
    for name, a in expected.items():
        np.testing.assert_allclose(found[name], a, rtol=2e-4, err_msg=name)
    for a, b in zip(weights, ours, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5)


def test_a_backup_resumes(tmp_path):
    """Stopped in its third epoch and run again, it goes through two epochs, as stock does."""
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def resumed(view_of):
        folder = tmp_path / view_of.__name__
        _, view = compiled(view_of)
        with pytest.raises(KeyboardInterrupt):
            fit(view, keras.callbacks.BackupAndRestore(folder), Stop(), epochs=4)
        model, view = compiled(view_of)
        history = fit(view, keras.callbacks.BackupAndRestore(folder), epochs=4)
        return [len(history["loss"]), *model.get_weights()]

    for a, b in zip(resumed(identity), resumed(lean), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5)


def test_the_view_counts_and_lists_what_the_original_does(capsys):
    model, view = compiled()
    assert view.count_params() == model.count_params()
    assert view.input_shape == model.input_shape and view.output_shape == model.output_shape
    view.summary()
    assert f"{model.count_params():,}" in capsys.readouterr().out
    assert view.model is model
