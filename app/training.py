"""Training: a network fitted to a data set, epoch by epoch, so that a killed run can go on."""

import time

import keras
import numpy as np

from app.data import batches, join, steps
from app.errors import HandgradError, unknown
from app.models import build
from app.runs import replacing
from custom_layers import SoftmaxCrossEntropy
from custom_layers.lean import lean
from custom_layers.lean_storage import SAVES

OPTIMIZERS = {
    "sgd": keras.optimizers.SGD,
    "momentum": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
    "nesterov": lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
    "adagrad": keras.optimizers.Adagrad,
    "rmsprop": keras.optimizers.RMSprop,
    "adam": keras.optimizers.Adam,
}


SCHEDULES = {
    "constant": lambda rate, steps: rate,
    "cosine": keras.optimizers.schedules.CosineDecay,
}


def compile_model(model, *, optimizer="adam", learning_rate=1e-3):
    """Compiles for classification: softmax and cross entropy on logits, and accuracy.

    learning_rate: a number or a Keras schedule.
    """
    if optimizer not in OPTIMIZERS:
        raise unknown("optimizer", optimizer, list(OPTIMIZERS))
    model.compile(
        OPTIMIZERS[optimizer](learning_rate),
        loss=SoftmaxCrossEntropy(),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
    return model


def new_model(config, data):
    """The compiled network of a config, its weights drawn from the config's seed."""
    if config.schedule not in SCHEDULES:
        raise unknown("schedule", config.schedule, list(SCHEDULES))
    if config.lean not in (None, *SAVES):
        raise unknown("way to store what lean training keeps", config.lean, list(SAVES))
    keras.utils.set_random_seed(config.seed)
    model = build(
        config.model, data.image_shape, len(data.class_names), statistics=data.statistics(),
        weight_decay=config.weight_decay, **config.sizes,
    )
    total = config.epochs * steps(training_part(config, data), config.batch_size)
    rate = SCHEDULES[config.schedule](config.learning_rate, total)
    return compile_model(model, optimizer=config.optimizer, learning_rate=rate)


def check(config, data):
    """Raises UsageError where the network, the data and the settings do not fit together."""
    new_model(config, data)
    batch_size = 1 if config.search else config.batch_size
    batches(training_part(config, data), batch_size, shuffle_seed=config.seed,
            augment=config.augment)


def training_part(config, data):
    """What a config trains on: the training part, or with it the validation part."""
    return join(data.train, data.validation) if config.on_train_and_validation else data.train


def fit(model, config, train, validation=None, *, first_epoch=0, callbacks=(), verbose=0):
    """Trains for the config's epochs, from `first_epoch` on. Returns Keras's `History`.

    What an epoch sees depends on the seed and the epoch's number alone.
    """
    size = config.batch_size
    dataset = batches(train, size, epochs=config.epochs, first_epoch=first_epoch,
                      shuffle_seed=config.seed, augment=config.augment)
    return model.fit(
        dataset,
        epochs=config.epochs,
        initial_epoch=first_epoch,
        steps_per_epoch=steps(train, size),
        validation_data=None if validation is None else batches(validation, max(size, 256)),
        callbacks=[Finite(), Reseed(config.seed), *callbacks],
        shuffle=False,  # the batches are shuffled already
        verbose=verbose,
    )


class Finite(keras.callbacks.Callback):
    """Stops with an error where the loss is no number any more, before anything is kept of it."""

    def on_epoch_end(self, epoch, logs=None):
        for name in ("loss", "val_loss"):
            value = (logs or {}).get(name, 0.0)
            if not abs(value) < float("inf"):
                raise HandgradError(
                    f"Training diverged: {name} is {value} after epoch {epoch + 1}. "
                    "Use a smaller learning rate."
                )


class Reseed(keras.callbacks.Callback):
    """Makes the random masks of an epoch a function of the seed and the epoch's number.

    Keras saves a layer's weights without the state of its random numbers: a resumed training
    would draw the masks of the first epoch again.
    """

    def __init__(self, seed):
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch, logs=None):
        weights = {id(weight) for weight in self.model.weights}
        states = [v for v in self.model.variables if id(v) not in weights]
        for i, state in enumerate(states):
            drawn = np.random.SeedSequence((self.seed, epoch, i)).generate_state(1)
            state.assign([drawn[0], 0])


class Checkpoints(keras.callbacks.Callback):
    """Keeps the run after each epoch: the history, the best model, the state to go on from.

    The best epoch has the highest validation accuracy (the lowest loss among equals), or is
    the last one where there is no validation part. Training stops when the best is `patience`
    epochs old. All of it follows from the history, so a resumed run decides as an
    uninterrupted one.
    """

    def __init__(self, run, patience=None):
        super().__init__()
        self.run, self.patience = run, patience
        self.rows = []

    def restore(self, model):
        """Loads the newest state into `model`; returns the number of epochs it has seen."""
        states = sorted(self.run.path.glob("state-*.weights.h5"))
        if not states:
            return 0
        model.optimizer.build(model.trainable_variables)
        model.load_weights(states[-1])
        epochs = int(states[-1].name[len("state-"):-len(".weights.h5")])
        self.rows = self.run.history()[:epochs]
        return epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs = {name: float(value) for name, value in logs.items()}
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        seconds = round(time.perf_counter() - self.started, 3)
        self.rows.append({"epoch": epoch, **logs, "learning_rate": rate, "seconds": seconds})
        if best_epoch(self.rows) == len(self.rows):
            with replacing(self.run.path / "best.keras") as aside:
                self.model.save(aside)
        self.run.write_history(self.rows)
        self._keep_state(epoch + 1)
        if self.finished():
            self.model.stop_training = True

    def finished(self):
        """Whether the best epoch is `patience` epochs old."""
        return self.patience and len(self.rows) - best_epoch(self.rows) >= self.patience

    def _keep_state(self, epochs):
        older = list(self.run.path.glob("state-*.weights.h5"))
        path = self.run.path / f"state-{epochs:05d}.weights.h5"
        with replacing(path) as aside:
            self.model.save_weights(aside)
        for state in older:
            if state != path:
                state.unlink()


def best_epoch(rows):
    """The number of epochs after which the model was best."""
    if not rows or "val_accuracy" not in rows[0]:
        return len(rows)
    best = max(range(len(rows)), key=lambda i: (rows[i]["val_accuracy"], -rows[i]["val_loss"]))
    return best + 1


def train(run, data, *, verbose=0):
    """Trains a run to its end, from where it stands; returns the model of its best epoch.

    Raises:
        HandgradError: where training diverges.
        UsageError: where the network, the data and the settings do not fit together.
    """
    config = run.config
    model = new_model(config, data)
    run.begin_training()
    checkpoints = Checkpoints(run, config.patience)
    first_epoch = checkpoints.restore(model)
    if first_epoch == 0:
        _keep_filters(run, model)
    if first_epoch < config.epochs and not checkpoints.finished():
        fit(
            lean(model, save=config.lean, seed=config.seed) if config.lean else model,
            config, training_part(config, data),
            None if config.on_train_and_validation else data.validation,
            first_epoch=first_epoch,
            callbacks=[checkpoints, keras.callbacks.TensorBoard(run.path / "logs")],
            verbose=verbose,
        )
    return run.model()


def first_filters(model):
    """The kernel (kh, kw, cin, cout) of the first convolution, or None."""
    for layer in model.layers:
        if len(layer.weights) and len(layer.weights[0].shape) == 4:
            return keras.ops.convert_to_numpy(layer.weights[0])
    return None


def _keep_filters(run, model):
    """Keeps the first convolution's kernel as it is before training, for the report."""
    filters = first_filters(model)
    if filters is not None:
        np.save(run.path / "initial_filters.npy", filters)
