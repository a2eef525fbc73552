"""The command line: `handgrad COMMAND`. A command imports what it needs when it runs."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.console import chatty, console, execute, quiet_tensorflow
from app.errors import UsageError, unknown

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Proven, lean Keras layers; from a folder of images to a served model in one command.",
)


def _set(attribute):
    return lambda value: setattr(console, attribute, True) if value else None


def option(kind, text, *names, **more):
    """The type of a command's option."""
    return Annotated[kind, typer.Option(*names, help=text, **more)]


def argument(kind, text):
    """The type of a command's argument."""
    return Annotated[kind, typer.Argument(help=text)]


Json = option(bool, "One JSON object on standard output.", "--json", callback=_set("as_json"))
Debug = option(bool, "Show the traceback of an error.", "--debug", callback=_set("debug"))
Task = option(str, "What the network is to do: classify, segment, detect, describe or generate.")
Data = option(str, "digits, mnist, fashion_mnist, cifar10, or the path of your own: a folder of "
                   "class folders, IDX files, an .npz.")
TaskData = option(str | None, "digits, mnist, fashion_mnist, cifar10, or the path of your own: a "
                              "folder of class folders, IDX files, an .npz; `handgrad data --task` "
                              "lists what other tasks read.  [default: digits, or digit-scenes]",
                  "--data")
Epochs = option(int | None, "Passes over the training images; in a search, of each trial at most.  "
                            "[default: 8, or the task's own]")
Name = option(str | None, "The run's name: its folder is runs/NAME.  [default: MODEL-DATA]")
Resume = option(bool, "Continue the run of that name, or start it.", "--resume")
Overwrite = option(bool, "Replace the run of that name.", "--overwrite")
Seed = option(int, "Decides the split, the first weights, the order of the images.")
ImageSize = option(int | None, "Side in pixels that images are resized to.")
SkipCorrupt = option(bool, "Leave out images that cannot be read, and count them.",
                     "--skip-corrupt")
Augment = option(str | None, "Random changes of training images, as in flip,rotate=15: flip, "
                             "alternate-flip, shift, crop, rotate, scale, squeeze, shear, "
                             "brightness, elastic, each with an amount or its usual one; or none.")
SearchAugment = option(str | None, "Random changes of training images: see `handgrad train "
                                   "--help`; or none.  [default: shift, or the task's own]",
                       "--augment")
Patience = option(int | None, "Stop when the best epoch is this many epochs old.")
Tuner = option(str, "random, grid, bayesian, hyperband, coarse-to-fine or halving.")
Trials = option(int | None, "Trials of the search.  [default: 6, the task's own, or what "
                            "--epoch-budget has room for]")
EpochBudget = option(int | None, "Start no trial when all together have been given so many epochs.")
Folds = option(int | None, "Score trials by cross-validation, with so many parts.  "
                           "[default: one fixed validation part]")
ObjectiveName = option(str | None, "What is searched for: val_loss, or the task's measure.  "
                                   "[default: val_accuracy, or so]", "--objective")
Workers = option(int, "Trials that run at once.")
TrialMinutes = option(float | None, "The longest that a trial may take.  [default: no limit]")
TrialMemory = option(str | None, "The most that a trial's process may hold, as in '4 GB'.  "
                                 "[default: no limit]")
StopHopeless = option(bool, "End trials that do worse than half of the others at their epoch.",
                      "--stop-hopeless")
ChiefAddress = option(str | None, "HOST:PORT: hand the trials to workers on other machines; with "
                                  "--worker, where the chief listens.", "--chief")
WorkerName = option(str | None, "Run the trials of a chief, under this name.", "--worker")
Show = option(str | None, "Show the search of this run, also while it runs, and write its page.")
Silence = option(float, "Seconds after which a worker that is not heard of is lost.")
Wait = option(float, "Seconds that a worker tries to reach a chief that does not answer.")
Keep = option(int, "Keep the weights of so many trials, the best.")
Craft = option(bool, "Search schedule, warm-up, label smoothing, averaged weights and "
                     "augmentation as well.", "--craft")
To = option(Path, "The folder of exported models.")
Searchable = option(str | None, "A network with a search space.  [default: lenet5, or the task's "
                                "own]", "--model")
BatchSize = option(int, "Images a step; 0: all.")
TaskBatchSize = option(int | None, "Images a step; 0: all.  [default: 32, or the task's own]",
                       "--batch-size")
Optimizer = option(str, "sgd, momentum, nesterov, adagrad, rmsprop, adam, or rprop (with "
                        "--batch-size 0).")
LearningRate = option(float | None, "The optimiser's step size.  [default: 0.001, or the task's "
                                    "own]")
Schedule = option(str, "How the step size changes: constant, step (a tenth at 1/2 and 3/4), "
                       "exponential (to a hundredth) or cosine (to 0).")
Warmup = option(float, "Epochs in which the step size rises from 0.")
LabelSmoothing = option(float, "The part of each label that all classes share.")
Ema = option(float | None, "Keep the moving average of the weights, by this factor a step (0.99).")
Balance = option(str | None, "Let rare classes count for more in the loss: median (by the median "
                             "of their shares) or log (1 / ln(1.02 + share), milder).")
Whiten = option(str | None, "Whiten the images inside the model, by the training images' "
                            "covariance: zca or pca.  [default: mean and deviation]")
Width = option(float | None, "The factor of all channels of the network.  [default: 1]")
From = option(str | None, "Start from the weights of this run, under a new head.", "--from")
Weights = option(str | None, "For networks of keras.applications: imagenet, or a file of weights.")
Freeze = option(int, "With --from: so many of the first layers with weights stay as they are.")
HeadLearningRate = option(float | None, "With --from: the head's step size.  "
                                        "[default: --learning-rate]")
WeightDecay = option(float, "lambda of the penalty 1/2 lambda W^2.")
Precision = option(str, "float32, or 16 bits on weights of 32: mixed_bfloat16, mixed_float16.")
Lean = option(str | None, "Train in half the memory: what is kept for the backward pass is stored "
                          "as float32 (exact), bfloat16 or int8.")
OtherData = option(str | None, "Other data than the run's.")
Format = option(str, "savedmodel, or a file beside its versions: onnx or litert.")
Dtype = option(str, "With --format litert: float32, or smaller, float16 or int8; the accuracy "
                    "before and after is printed.")
ModelName = option(str | None, "The model's name.  [default: the run's]")
FiguresFolder = option(Path, "The folder they are written to.")
Samples = option(Path | None, "A folder to write a test image of each class to, as PNG files.")
Memory = option(bool, "Show what the network keeps for its backward pass, stock and lean.",
                "--memory")
Side = option(int | None, "Side in pixels of the images.  [default: the network's own]")
Model = argument(str, "A network: `handgrad models` lists them.")
Searched = argument(str | None, "A network; a worker needs none.")
OneModel = argument(str | None, "A network.  [default: all]")
RunNames = argument(list[str], "The names of runs on the same data, or their folders.")
EnsembleName = option(str, "The model's name.", "--name")
Views = option(str | None, "Average over views of each image as well: flip, shift (by a pixel, "
                           "five), or both.")
Features = option(str, "pixels, hog, or both.")
Reduction = option(str, "none, pca, lda, or a selection: chi-square, mutual-information, "
                        "correlation, elimination, l1; several with commas.")
Classifier = option(str, "svm, knn, or both.")
Limit = option(int | None, "Use so many training images.  [default: all]")
FeaturesOf = option(str | None, "Also by the features that the network of this run has learned, "
                                "on the run's data.")
StudyName = argument(str | None, "init, bn, decay, dropout, optimizers, overfit or transfer.  "
                                 "[default: list them]")
RecipeName = argument(str | None, "A recipe.  [default: list them]")
Seeds = option(int | None, "How many trainings.  [default: the recipe's own number]")
RunName = argument(str, "The name of a run, or its folder.")
Exported = argument(Path, "saved_models/NAME, or one version of it.")
Files = argument(list[Path], "Images, or folders of them.")
MaybeFiles = argument(list[Path] | None, "Images, or folders of them; a generator takes none.")
PicturesFolder = option(Path | None, "A folder to write masks, boxes or sentences to, as pictures "
                                     "over the images; or what a generator draws.", "--to")
Exports = argument(Path, "The folder of exported models, or saved_models/NAME.")
Host = option(str, "The address to listen on; 0.0.0.0 for all of this machine's.")
Port = option(int, "The port to listen on; 0 for any that is free.")
Latest = option(int, "How many of the newest versions serve, beside those with a label.")
Batch = option(int, "Most images that requests share a call for; 1: none are shared.")
BatchWait = option(float, "Milliseconds that a call waits for more requests.")
Queue = option(int, "Requests that may wait; more are refused at once.")
Timeout = option(float, "Seconds that a request may take.")
RequestMegabytes = option(float, "The most megabytes that a request may hold.")
Token = option(str | None, "What requests must give as `Authorization: Bearer`.",
               "--token", envvar="HANDGRAD_TOKEN")
Cors = option(bool, "Let pages of other addresses ask.", "--cors")
ThePage = option(bool, "Show the models at /, to draw and look inside; not with --token.",
                 "--page/--no-page")
Layers = argument(list[str] | None, "Names of layers.  [default: all]")
InFull = argument(list[str] | None, "Names of layers to show in full, with an example in numbers.")
Figures = argument(list[str] | None, "Names of figures.  [default: all]")
WithActivations = option(bool, "Export the output of every layer too, for the page that shows "
                               "them.", "--with-activations")
Source = argument(str | None, "A data set or path to describe.")
AnyTask = option(str, "What it is read for: classify, segment, detect, describe or generate.",
                 "--task")


@app.command()
@chatty
def run(
    task: Task = "classify", data: TaskData = None, model: Searchable = None,
    tuner: Tuner = "random", trials: Trials = None, epochs: Epochs = None,
    objective: ObjectiveName = None, schedule: Schedule = "cosine",
    craft: Craft = False, patience: Patience = None, workers: Workers = 1,
    trial_minutes: TrialMinutes = None, trial_memory: TrialMemory = None,
    stop_hopeless: StopHopeless = False, keep: Keep = 3,
    epoch_budget: EpochBudget = None, folds: Folds = None, name: Name = None,
    to: To = Path("saved_models"), augment: SearchAugment = None, seed: Seed = 0,
    image_size: ImageSize = None, skip_corrupt: SkipCorrupt = False, resume: Resume = False,
    overwrite: Overwrite = False, as_json: Json = False, debug: Debug = False,
):
    """The whole way: search, training, evaluation, export, report."""
    quiet_tensorflow()
    from tuning.commands import run_all

    config = _searched(task, model, data, epochs=epochs, schedule=schedule, craft=craft,
                       patience=patience, augment=augment, seed=seed, image_size=image_size,
                       skip_corrupt=skip_corrupt)
    plan = _plan(task, tuner, trials, objective, workers, trial_minutes, trial_memory,
                 stop_hopeless, keep, epoch_budget, folds)
    run_all(config, name or _name(config), plan, to=to, resume=resume, overwrite=overwrite)


@app.command()
@chatty
def tune(
    model: Searched = None, task: Task = "classify", data: TaskData = None,
    tuner: Tuner = "random", trials: Trials = None, epochs: Epochs = None,
    objective: ObjectiveName = None, schedule: Schedule = "cosine",
    craft: Craft = False, patience: Patience = None, workers: Workers = 1,
    trial_minutes: TrialMinutes = None, trial_memory: TrialMemory = None,
    stop_hopeless: StopHopeless = False, keep: Keep = 3,
    epoch_budget: EpochBudget = None, folds: Folds = None, name: Name = None,
    augment: SearchAugment = None, seed: Seed = 0, image_size: ImageSize = None,
    skip_corrupt: SkipCorrupt = False, resume: Resume = False, overwrite: Overwrite = False,
    chief: ChiefAddress = None, worker: WorkerName = None, silence: Silence = 30.0,
    wait: Wait = 300.0, show: Show = None, as_json: Json = False, debug: Debug = False,
):
    """Search a network's hyper-parameters on the validation part, on one machine or many."""
    from tuning.roles import role_of

    chief, worker = role_of(chief, worker)
    if worker is not None:
        from tuning.worker_command import run_trials

        return run_trials(chief, worker, wait)
    if model is None and show is None:
        raise UsageError("Name a network: `handgrad models` lists them.")
    quiet_tensorflow()
    from tuning.commands import show_search, tune as tune_command

    if show is not None:
        return show_search(show)

    config = _searched(task, model, data, epochs=epochs, schedule=schedule, craft=craft,
                       patience=patience, augment=augment, seed=seed, image_size=image_size,
                       skip_corrupt=skip_corrupt)
    plan = _plan(task, tuner, trials, objective, workers, trial_minutes, trial_memory,
                 stop_hopeless, keep, epoch_budget, folds)
    tune_command(config, name or _name(config), plan, resume=resume, overwrite=overwrite,
                 chief=chief, silence=silence)


@app.command()
@chatty
def train(
    model: Model, task: Task = "classify", data: TaskData = None, epochs: Epochs = None,
    batch_size: TaskBatchSize = None, optimizer: Optimizer = "adam",
    learning_rate: LearningRate = None,
    schedule: Schedule = "constant", warmup: Warmup = 0.0, weight_decay: WeightDecay = 0.0,
    label_smoothing: LabelSmoothing = 0.0, ema: Ema = None, augment: Augment = None,
    balance: Balance = None, whiten: Whiten = None, patience: Patience = None,
    precision: Precision = "float32", lean: Lean = None, width: Width = None,
    start_from: From = None, weights: Weights = None, freeze: Freeze = 0,
    head_learning_rate: HeadLearningRate = None, seed: Seed = 0, name: Name = None,
    image_size: ImageSize = None, skip_corrupt: SkipCorrupt = False, resume: Resume = False,
    overwrite: Overwrite = False, as_json: Json = False, debug: Debug = False,
):
    """Train a network; keep its best epoch; test it once."""
    quiet_tensorflow()
    from app.commands import train as train_command

    sizes = {"width": width, "weights": weights}
    config = _config(task, model, data, epochs=epochs, batch_size=batch_size, optimizer=optimizer,
                     learning_rate=learning_rate, schedule=schedule, warmup=warmup,
                     weight_decay=weight_decay, label_smoothing=label_smoothing, ema=ema,
                     augment=augment, balance=balance, whiten=whiten, patience=patience,
                     precision=precision, lean=lean,
                     sizes={k: v for k, v in sizes.items() if v is not None},
                     start_from=start_from, freeze=freeze, head_learning_rate=head_learning_rate,
                     seed=seed, image_size=image_size, skip_corrupt=skip_corrupt)
    train_command(config, name or _name(config), resume=resume, overwrite=overwrite)


@app.command()
@chatty
def evaluate(
    run: RunName, data: OtherData = None, views: Views = None, as_json: Json = False,
    debug: Debug = False,
):
    """Evaluate a run's model on the test part: accuracy, confusion matrix, each class."""
    quiet_tensorflow()
    from app.commands import evaluate as evaluate_command

    evaluate_command(run, data, views)


@app.command()
@chatty
def export(
    run: RunName, name: ModelName = None,
    to: To = Path("saved_models"), format: Format = "savedmodel", dtype: Dtype = "float32",
    with_activations: WithActivations = False,
    as_json: Json = False, debug: Debug = False,
):
    """Export a run's model as the next version of saved_models/NAME."""
    quiet_tensorflow()
    from app.commands import export as export_command

    export_command(run, name, to, format=format, dtype=dtype,
                   with_activations=with_activations)


@app.command()
@chatty
def page(run: RunName, port: Port = 8502, as_json: Json = False, debug: Debug = False):
    """Draw a digit and see each layer of a run's network think, on a page in the browser."""
    quiet_tensorflow()
    from app.page.command import show_page

    show_page(run, port)


@app.command()
@chatty
def ensemble(
    runs: RunNames, name: EnsembleName, to: To = Path("saved_models"), views: Views = None,
    as_json: Json = False, debug: Debug = False,
):
    """Average the predictions of several runs, test them once, export them as one model."""
    quiet_tensorflow()
    from app.ensemble_command import export_ensemble

    export_ensemble(runs, name, to, views)


@app.command()
@chatty
def predict(
    model: Exported, files: MaybeFiles = None, to: PicturesFolder = None,
    as_json: Json = False, debug: Debug = False,
):
    """What an exported model says of image files: classes, masks, boxes, sentences; or draws."""
    quiet_tensorflow()
    from app.predict_command import predict as predict_command

    return predict_command(model, files, to)


@app.command()
@chatty
def serve(
    folder: Exports = Path("saved_models"), host: Host = "127.0.0.1", port: Port = 8501,
    latest: Latest = 1, batch: Batch = 32, batch_wait: BatchWait = 0.0, queue: Queue = 256,
    timeout: Timeout = 30.0, request_mb: RequestMegabytes = 32, token: Token = None,
    cors: Cors = False, page: ThePage = True, debug: Debug = False,
):
    """Serve exported models over HTTP, as TensorFlow Serving does."""
    quiet_tensorflow()
    from app.serve_command import serve as serve_command

    serve_command(folder, host, port, latest, batch=batch, wait=batch_wait / 1000, queue=queue,
                  timeout=timeout, body=int(request_mb * 1e6), token=token, cors=cors,
                  page=page)


@app.command()
@chatty
def check(
    layers: Layers = None, as_json: Json = False, debug: Debug = False,
):
    """Check the gradients of layers in eager, graph and XLA mode."""
    quiet_tensorflow()
    from app.checking import check as check_command

    return check_command(layers)


@app.command()
@chatty
def figures(
    names: Figures = None,
    to: FiguresFolder = Path("figures"), as_json: Json = False,
    debug: Debug = False,
):
    """Draw the gallery: pictures that need no run."""
    quiet_tensorflow()
    from app.commands import draw_figures

    draw_figures(names, to)


@app.command("data")
@chatty
def data_sets(
    source: Source = None, task: AnyTask = "classify", samples: Samples = None,
    image_size: ImageSize = None, skip_corrupt: SkipCorrupt = False, as_json: Json = False,
    debug: Debug = False,
):
    """List the data sets there are, or describe one."""
    quiet_tensorflow()
    from app.commands import describe_data

    describe_data(task, source, samples, image_size=image_size, skip_corrupt=skip_corrupt)


@app.command()
@chatty
def models(
    name: OneModel = None, memory: Memory = False, batch_size: BatchSize = 32,
    image_size: Side = None, as_json: Json = False, debug: Debug = False,
):
    """List the networks, with their exact trainable parameters; or show one, layer by layer."""
    quiet_tensorflow()
    from app.model_listing import list_models, show_memory, show_model

    if memory:
        show_memory(name, batch_size, image_size)
    elif name is None:
        list_models()
    else:
        show_model(name, image_size)


@app.command()
@chatty
def baseline(
    data: Data = "digits", features: Features = "pixels,hog", reduction: Reduction = "none,pca",
    classifier: Classifier = "svm,knn", limit: Limit = None, run: FeaturesOf = None,
    seed: Seed = 0, as_json: Json = False, debug: Debug = False,
):
    """Classical baselines by scikit-learn on the same parts of the data; what learning buys."""
    quiet_tensorflow()
    from app.baseline_command import show_baselines

    show_baselines(data, features, reduction, classifier, limit=limit, run=run, seed=seed)


@app.command()
@chatty
def recipe(
    name: RecipeName = None, seeds: Seeds = None, as_json: Json = False, debug: Debug = False,
):
    """Run a kept configuration, its result beside the published one; or list them."""
    quiet_tensorflow()
    from app.recipe_commands import list_recipes, run_recipe

    if name is None:
        list_recipes()
    else:
        return run_recipe(name, seeds)


@app.command()
@chatty
def study(
    name: StudyName = None, data: Data = "digits", to: FiguresFolder = Path("figures"),
    seed: Seed = 0, as_json: Json = False, debug: Debug = False,
):
    """What initial values, BN, weight decay, dropout and optimisers do: numbers and pictures."""
    quiet_tensorflow()
    from app.study_command import show_study

    show_study(name, data, to, seed)


@app.command()
@chatty
def layers(names: InFull = None, as_json: Json = False, debug: Debug = False):
    """List the layers and losses, or show some in full with an example in numbers."""
    quiet_tensorflow()
    from app.layer_listing import list_layers

    list_layers(names)


def _config(task, model, data, **settings):
    """The config of a training; what is not given is the task's own."""
    from app.runs import Config
    from app.tasks import known

    usual = known(task)
    settings |= {name: getattr(usual, name)
                 for name in ("epochs", "batch_size", "learning_rate", "ema")
                 if settings.get(name) is None}
    return Config(model or usual.model, data or usual.data, task, **settings)


def _searched(task, model, data, *, augment, **settings):
    """The config of a search."""
    from app.tasks import known

    if settings.get("craft") and task != "classify":
        raise UsageError(f"--craft is for classification. Received: --task {task}")
    augment = known(task).augment if augment is None else augment
    return _config(task, model, data, augment=augment, search=True, **settings)


def _plan(task, tuner, trials, objective, workers, minutes, memory, stop_hopeless, keep, budget,
          folds):
    from app.tasks import known
    from tuning.plan import Plan, limits

    usual = known(task)
    if trials is None and budget is None:
        trials = usual.trials
    if folds and task != "classify":
        raise UsageError(f"--folds is for classification. Received: --task {task}")
    objective = objective or f"val_{usual.measure.name}"
    if objective not in ("val_loss", f"val_{usual.measure.name}"):
        raise unknown(f"objective of --task {task}", objective,
                      [f"val_{usual.measure.name}", "val_loss"])
    return Plan(tuner, trials, objective, workers, limits(minutes, memory), stop_hopeless, keep,
                budget, folds)


def _name(config):
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{config.model}-{Path(config.data).absolute().name}")


def main():
    """The console script's entry point."""
    sys.exit(execute(app))


if __name__ == "__main__":
    main()
