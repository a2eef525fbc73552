"""The command line: `handgrad COMMAND`. A command imports what it needs when it runs."""

import re
import sys
from importlib import metadata
from pathlib import Path

import typer

from app import options as o
from app.console import chatty, execute, quiet_tensorflow
from app.errors import UsageError, unknown

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Proven, lean Keras layers; from a folder of images to a served model in one command.",
)


@app.callback(invoke_without_command=True)
def without_command(context: typer.Context, version: o.Version = False):
    if version:
        print(f"handgrad {metadata.version('handgrad')}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
@chatty
def run(
    task: o.Task = "classify", data: o.TaskData = None, model: o.Searchable = None,
    tuner: o.Tuner = "random", trials: o.Trials = None, epochs: o.Epochs = None,
    objective: o.ObjectiveName = None, schedule: o.Schedule = "cosine",
    craft: o.Craft = False, patience: o.Patience = None, workers: o.Workers = 1,
    trial_minutes: o.TrialMinutes = None, trial_memory: o.TrialMemory = None,
    stop_hopeless: o.StopHopeless = False, keep: o.Keep = 3,
    epoch_budget: o.EpochBudget = None, folds: o.Folds = None, name: o.Name = None,
    to: o.To = Path("saved_models"), augment: o.SearchAugment = None, seed: o.Seed = 0,
    image_size: o.ImageSize = None, skip_corrupt: o.SkipCorrupt = False, resume: o.Resume = False,
    overwrite: o.Overwrite = False, as_json: o.Json = False, debug: o.Debug = False,
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
    model: o.Searched = None, task: o.Task = "classify", data: o.TaskData = None,
    tuner: o.Tuner = "random", trials: o.Trials = None, epochs: o.Epochs = None,
    objective: o.ObjectiveName = None, schedule: o.Schedule = "cosine",
    craft: o.Craft = False, patience: o.Patience = None, workers: o.Workers = 1,
    trial_minutes: o.TrialMinutes = None, trial_memory: o.TrialMemory = None,
    stop_hopeless: o.StopHopeless = False, keep: o.Keep = 3,
    epoch_budget: o.EpochBudget = None, folds: o.Folds = None, name: o.Name = None,
    augment: o.SearchAugment = None, seed: o.Seed = 0, image_size: o.ImageSize = None,
    skip_corrupt: o.SkipCorrupt = False, resume: o.Resume = False, overwrite: o.Overwrite = False,
    chief: o.ChiefAddress = None, worker: o.WorkerName = None, silence: o.Silence = 30.0,
    wait: o.Wait = 300.0, show: o.Show = None, as_json: o.Json = False, debug: o.Debug = False,
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
    model: o.Model, task: o.Task = "classify", data: o.TaskData = None, epochs: o.Epochs = None,
    batch_size: o.TaskBatchSize = None, optimizer: o.Optimizer = "adam",
    learning_rate: o.LearningRate = None,
    schedule: o.Schedule = "constant", warmup: o.Warmup = 0.0, weight_decay: o.WeightDecay = 0.0,
    label_smoothing: o.LabelSmoothing = 0.0, ema: o.Ema = None, augment: o.Augment = None,
    balance: o.Balance = None, jaccard: o.Jaccard = 0.0, whiten: o.Whiten = None,
    patience: o.Patience = None, precision: o.Precision = "float32", xla: o.Xla = None,
    lean: o.Lean = None, width: o.Width = None, trunk: o.Trunk = None, start_from: o.From = None,
    weights: o.Weights = None, freeze: o.Freeze = 0,
    head_learning_rate: o.HeadLearningRate = None, seed: o.Seed = 0, name: o.Name = None,
    image_size: o.ImageSize = None, skip_corrupt: o.SkipCorrupt = False, resume: o.Resume = False,
    overwrite: o.Overwrite = False, as_json: o.Json = False, debug: o.Debug = False,
):
    """Train a network; keep its best epoch; test it once."""
    quiet_tensorflow()
    from app.commands import train as train_command

    sizes = {"width": width, "trunk": trunk, "weights": weights}
    config = _config(task, model, data, epochs=epochs, batch_size=batch_size, optimizer=optimizer,
                     learning_rate=learning_rate, schedule=schedule, warmup=warmup,
                     weight_decay=weight_decay, label_smoothing=label_smoothing, ema=ema,
                     augment=augment, balance=balance, jaccard=jaccard, whiten=whiten,
                     patience=patience, precision=precision, xla=xla, lean=lean,
                     sizes={k: v for k, v in sizes.items() if v is not None},
                     start_from=start_from, freeze=freeze, head_learning_rate=head_learning_rate,
                     seed=seed, image_size=image_size, skip_corrupt=skip_corrupt)
    train_command(config, name or _name(config), resume=resume, overwrite=overwrite)


@app.command()
@chatty
def evaluate(
    run: o.RunName, data: o.OtherData = None, views: o.Views = None, as_json: o.Json = False,
    debug: o.Debug = False,
):
    """Evaluate a run's model on the test part: accuracy, confusion matrix, each class."""
    quiet_tensorflow()
    from app.commands import evaluate as evaluate_command

    evaluate_command(run, data, views)


@app.command()
@chatty
def export(
    run: o.RunName, name: o.ModelName = None,
    to: o.To = Path("saved_models"), format: o.Format = "savedmodel", dtype: o.Dtype = "float32",
    with_activations: o.WithActivations = False,
    as_json: o.Json = False, debug: o.Debug = False,
):
    """Export a run's model as the next version of saved_models/NAME."""
    quiet_tensorflow()
    from app.commands import export as export_command

    export_command(run, name, to, format=format, dtype=dtype,
                   with_activations=with_activations)


@app.command()
@chatty
def page(run: o.RunName, port: o.Port = 8502, as_json: o.Json = False, debug: o.Debug = False):
    """Draw a digit and see each layer of a run's network think, on a page in the browser."""
    quiet_tensorflow()
    from app.page.command import show_page

    show_page(run, port)


@app.command()
@chatty
def ensemble(
    runs: o.RunNames, name: o.EnsembleName, to: o.To = Path("saved_models"), views: o.Views = None,
    as_json: o.Json = False, debug: o.Debug = False,
):
    """Average the predictions of several runs, test them once, export them as one model."""
    quiet_tensorflow()
    from app.ensemble_command import export_ensemble

    export_ensemble(runs, name, to, views)


@app.command()
@chatty
def predict(
    model: o.Exported, files: o.Files = None, to: o.PicturesFolder = None,
    as_json: o.Json = False, debug: o.Debug = False,
):
    """What an exported model says of image files: classes, masks, boxes, sentences; or draws."""
    quiet_tensorflow()
    from app.predict_command import predict as predict_command

    return predict_command(model, files, to)


@app.command()
@chatty
def serve(
    folder: o.Exports = Path("saved_models"), host: o.Host = "127.0.0.1", port: o.Port = 8501,
    latest: o.Latest = 1, batch: o.Batch = 32, batch_wait: o.BatchWait = 0.0, queue: o.Queue = 256,
    timeout: o.Timeout = 30.0, request_mb: o.RequestMegabytes = 32, token: o.Token = None,
    cors: o.Cors = False, page: o.ThePage = True, debug: o.Debug = False,
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
    layers: o.Layers = None, as_json: o.Json = False, debug: o.Debug = False,
):
    """Check the gradients of layers in eager, graph and XLA mode."""
    quiet_tensorflow()
    from app.checking import check as check_command

    return check_command(layers)


@app.command()
@chatty
def figures(
    names: o.Figures = None,
    to: o.FiguresFolder = Path("figures"), as_json: o.Json = False,
    debug: o.Debug = False,
):
    """Draw the gallery: pictures that need no run."""
    quiet_tensorflow()
    from app.commands import draw_figures

    draw_figures(names, to)


@app.command("data")
@chatty
def data_sets(
    source: o.Source = None, task: o.AnyTask = "classify", samples: o.Samples = None,
    image_size: o.ImageSize = None, skip_corrupt: o.SkipCorrupt = False, as_json: o.Json = False,
    debug: o.Debug = False,
):
    """List the data sets there are, or describe one."""
    quiet_tensorflow()
    from app.commands import describe_data

    describe_data(task, source, samples, image_size=image_size, skip_corrupt=skip_corrupt)


@app.command()
@chatty
def models(
    name: o.OneModel = None, memory: o.Memory = False, batch_size: o.BatchSize = 32,
    image_size: o.Side = None, as_json: o.Json = False, debug: o.Debug = False,
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
    data: o.Data = "digits", features: o.Features = "pixels,hog",
    reduction: o.Reduction = "none,pca", classifier: o.Classifier = "svm,knn",
    limit: o.Limit = None, run: o.FeaturesOf = None, seed: o.Seed = 0, as_json: o.Json = False,
    debug: o.Debug = False,
):
    """Classical baselines by scikit-learn on the same parts of the data; what learning buys."""
    quiet_tensorflow()
    from app.baseline_command import show_baselines

    show_baselines(data, features, reduction, classifier, limit=limit, run=run, seed=seed)


@app.command()
@chatty
def recipe(
    name: o.RecipeName = None, seeds: o.Seeds = None, as_json: o.Json = False,
    debug: o.Debug = False,
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
    name: o.StudyName = None, data: o.Data = "digits", to: o.FiguresFolder = Path("figures"),
    seed: o.Seed = 0, as_json: o.Json = False, debug: o.Debug = False,
):
    """What initial values, BN, weight decay, dropout and optimisers do: numbers and pictures."""
    quiet_tensorflow()
    from app.study_command import show_study

    show_study(name, data, to, seed)


@app.command()
@chatty
def layers(names: o.InFull = None, as_json: o.Json = False, debug: o.Debug = False):
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
