"""Training: a network fitted to a data set, epoch by epoch, so that a killed run can go on."""

import time

import keras
import numpy as np

from app import whitening
from app.balance import class_weights
from app.compiling import DECOUPLED, Averaged, current_rate
from app.data import batches, join, steps
from app.errors import HandgradError, UsageError, unknown
from app.precision import precision, widen_outputs
from app.measures import ACCURACY, best_row
from app.runs import Run, replacing
from app.schedules import learning_rate
from app.state import read_state, write_state
from app.tasks import find_task
from app.transfer import statistics_of, transfer
from custom_layers.lean_storage import SAVES


def new_model(config, data):
    """The compiled network of a config, its weights drawn from the config's seed."""
    if config.lean not in (None, *SAVES):
        raise unknown("way to store what lean training keeps", config.lean, list(SAVES))
    _check_start(config)
    source = Run.open(config.start_from).model(whole=True) if config.start_from else None
    task, decoupled = find_task(config.task), config.optimizer == DECOUPLED
    train = training_part(config, data)
    of_loss = _loss_settings(config, task, data, train)
    keras.utils.set_random_seed(config.seed)
    with precision(config.precision):
        model = task.build(
            config.model, data,
            statistics=statistics_of(source) if source else config.whiten or data.statistics(),
            weight_decay=0.0 if decoupled else config.weight_decay, **config.sizes,
        )
    if config.precision != "float32":
        for part in task.parts(model):
            widen_outputs(part)
    if source:
        transfer(model, source, head=task.head(model), freeze=config.freeze)
    rate = learning_rate(config.schedule, config.learning_rate, config.epochs,
                         steps(train, batch_size(config, train)), config.warmup)
    head = task.head(model) if config.head_learning_rate else ()
    return task.compile(model, config.model, optimizer=config.optimizer, learning_rate=rate,
                        **of_loss,
                        label_smoothing=config.label_smoothing, ema=config.ema,
                        weight_decay=config.weight_decay if decoupled else 0.0,
                        head_learning_rate=config.head_learning_rate, head=head)


def _loss_settings(config, task, data, train):
    """Those of `Task.loss_settings`, of a config."""
    for option, name, given, tasks in (
            ("--balance", "class_weights", config.balance, "classification and segmentation"),
            ("--jaccard", "jaccard", config.jaccard, "segmentation")):
        if given and name not in task.loss_settings:
            raise UsageError(f"{option} is for {tasks}. Received: --task {task.name}")
    settings = {"class_weights": None, "jaccard": config.jaccard}
    if config.balance:
        counts = data.count(train.labels, len(data.class_names))
        settings["class_weights"] = class_weights(config.balance, counts, data.class_names)
    return {name: settings[name] for name in task.loss_settings}


def _check_start(config):
    """Raises UsageError where a config says twice what its network starts from, or expects."""
    weights = config.sizes.get("weights")
    if config.start_from is None and (config.freeze or config.head_learning_rate):
        raise UsageError("--freeze and --head-learning-rate need --from RUN, a trained network.")
    for first, second, given in (
            ("--from", "--weights", config.start_from and weights),
            ("--from", "--whiten", config.start_from and config.whiten),
            ("--weights", "--whiten", weights and config.whiten)):
        if given:
            raise UsageError(f"{first} brings what the network expects of its images, and "
                             f"{second} would change it: give one of them. Received: {given}")


def check(config, data):
    """Raises UsageError where the network, the data and the settings do not fit together."""
    new_model(config, data)
    train = training_part(config, data)
    batches(train, 1 if config.search else batch_size(config, train), shuffle_seed=config.seed,
            augment=config.augment, moved=find_task(config.task).moved)


def training_part(config, data):
    """What a config trains on: the training part, or with it the validation part."""
    return join(data.train, data.validation) if config.on_train_and_validation else data.train


def batch_size(config, train):
    """Images a step; 0 stands for all of them."""
    return config.batch_size or len(train)


def fit(model, config, train, validation=None, *, first_epoch=0, until=None, callbacks=(),
        verbose=0):
    """Trains from `first_epoch` to the config's epochs, or `until`. Returns Keras's `History`.

    What an epoch sees depends on the seed and the epoch's number alone.
    """
    network = getattr(model, "model", model)  # of a lean view
    task, size = find_task(config.task), batch_size(config, train)
    if config.xla is not None:
        model.jit_compile = config.xla
    if not (first_epoch or config.start_from):
        whitening.fit(network, train.images)
    examples = task.examples(network, config.model)

    def fitted(dataset):
        return dataset if examples is None else dataset.map(examples)

    dataset = batches(train, size, epochs=config.epochs, first_epoch=first_epoch,
                      shuffle_seed=config.seed, augment=config.augment, moved=task.moved,
                      chosen=task.chosen)
    averaged = [Averaged(resumed=first_epoch > 0)] if config.ema else []
    if not model.optimizer.built:  # a step that makes variables is traced a second time
        model.optimizer.build(model.trainable_variables)
    return model.fit(
        fitted(dataset),
        epochs=until or config.epochs,
        initial_epoch=first_epoch,
        steps_per_epoch=steps(train, size),
        validation_data=None if validation is None else fitted(
            batches(validation, max(size, validated_at_once(validation)), chosen=task.chosen)),
        callbacks=[FirstOutput(), Finite(), Reseed(config.seed), *averaged,
                   *task.callbacks(network, config.model, train, validation), *callbacks],
        shuffle=False,  # the batches are shuffled already
        verbose=verbose,
    )


def validated_at_once(split):
    """So many images are validated in a batch: as many as 256 of 32 x 32 pixels hold."""
    height, width = split.images.shape[1:3]
    return min(256, max(1, 2**18 // (height * width)))


class FirstOutput(keras.callbacks.Callback):
    """Of a network with several outputs: the accuracy of the logits is the accuracy."""

    def on_epoch_end(self, epoch, logs=None):
        for part in ("", "val_"):
            if f"{part}logits_accuracy" in logs:
                logs[f"{part}accuracy"] = logs.pop(f"{part}logits_accuracy")


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

    The best epoch is the best by the measure of the task on the validation part (the lowest
    loss among equals), or is the last one where there is no such part. Training stops when the
    best is `patience` epochs old. All of it follows from the history, so a resumed run decides
    as an uninterrupted one.
    """

    def __init__(self, run, patience=None, keep_best=True):
        super().__init__()
        self.run, self.patience, self.keep_best = run, patience, keep_best
        self.measure = find_task(run.config.task).measure
        self.rows = []

    def restore(self, model):
        """Loads the newest state into `model`; returns the number of epochs it has seen."""
        states = sorted(self.run.path.glob("state-*.npz"))
        if not states:
            return 0
        read_state(model, states[-1])
        epochs = int(states[-1].stem[len("state-"):])
        self.rows = self.run.history()[:epochs]
        if len(self.rows) < epochs:
            raise HandgradError(f"{self.run.path}/history.csv ends before {states[-1].name}. "
                                "Remove that folder, and start anew.")
        return epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs = {name: float(value) for name, value in logs.items()}
        rate = current_rate(self.model.optimizer)
        seconds = round(time.perf_counter() - self.started, 3)
        self.rows.append({"epoch": epoch, **logs, "learning_rate": rate, "seconds": seconds})
        if self.keep_best and self._best() == len(self.rows):
            with replacing(self.run.path / "best.keras") as aside:
                self.model.save(aside)
        self.run.write_history(self.rows)
        self._keep_state(epoch + 1)
        if self.finished():
            self.model.stop_training = True

    def finished(self):
        """Whether the best epoch is `patience` epochs old."""
        return self.patience and len(self.rows) - self._best() >= self.patience

    def _best(self):
        return best_epoch(self.rows, self.measure)

    def _keep_state(self, epochs):
        older = list(self.run.path.glob("state-*.npz"))
        path = self.run.path / f"state-{epochs:05d}.npz"
        with replacing(path) as aside:
            write_state(self.model, aside)
        for state in older:
            if state != path:
                state.unlink()


def best_epoch(rows, measure=ACCURACY):
    """The number of epochs after which the model was best."""
    best = best_row(rows, measure)
    return len(rows) if best is None else best + 1


def train(run, data, *, verbose=0):
    """Trains a run to its end, from where it stands; returns the model of its best epoch.

    Raises:
        HandgradError: where training diverges.
        UsageError: where the network, the data and the settings do not fit together.
    """
    config, task = run.config, find_task(run.config.task)
    model = new_model(config, data)
    run.begin_training()
    checkpoints = Checkpoints(run, config.patience)
    first_epoch = checkpoints.restore(model)
    if first_epoch == 0:
        _keep_filters(run, model)
    if first_epoch < config.epochs and not checkpoints.finished():
        fit(
            task.lean(model, save=config.lean, seed=config.seed) if config.lean else model,
            config, training_part(config, data),
            None if config.on_train_and_validation else data.validation,
            first_epoch=first_epoch,
            callbacks=[checkpoints, keras.callbacks.TensorBoard(run.path / "logs")],
            verbose=verbose,
        )
    return run.model()


def first_filters(model):
    """The kernel (kh, kw, cin, cout) of the first convolution that is trained, or None."""
    for layer in model.layers:
        if layer.trainable_weights and len(layer.weights[0].shape) == 4:
            return keras.ops.convert_to_numpy(layer.weights[0])
    return None


def _keep_filters(run, model):
    """Keeps the first convolution's kernel as it is before training, for the report."""
    filters = first_filters(model)
    if filters is not None:
        np.save(run.path / "initial_filters.npy", filters)
