"""What the commands of `app.cli` take: the type, the name and the help of each option."""

from pathlib import Path
from typing import Annotated, Any

import typer

from app.console import console


def _set(attribute):
    return lambda value: setattr(console, attribute, True) if value else None


def _size(text):
    """128 as 128, 360x480 as [360, 480]."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(map(str.isdecimal, sides)):
        raise typer.BadParameter("Expected a side or HEIGHTxWIDTH in pixels, as in 128 or 360x480. "
                                 f"Received: {text}")
    return int(text) if len(sides) == 1 else [int(side) for side in sides]


def option(kind, text, *names, **more):
    """The type of a command's option."""
    return Annotated[kind, typer.Option(*names, help=text, **more)]


def argument(kind, text):
    """The type of a command's argument."""
    return Annotated[kind, typer.Argument(help=text)]


Version = option(bool, "Show the version.", "--version")
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
ImageSize = option(Any, "Pixels that images are resized to: a side, or HEIGHTxWIDTH.",
                   parser=_size, metavar="<side|HxW>")
SkipCorrupt = option(bool, "Leave out images that cannot be read, and count them.",
                     "--skip-corrupt")
Augment = option(str | None, "Random changes of training images, as in flip,rotate=15: flip, "
                             "alternate-flip, shift, crop, rotate, scale, squeeze, shear, "
                             "brightness, contrast, colour, elastic, each with an amount or its "
                             "usual one; or none.")
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
Optimizer = option(str, "sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, or rprop "
                        "(with --batch-size 0).")
LearningRate = option(float | None, "The optimiser's step size.  [default: 0.001, or the task's "
                                    "own]")
Schedule = option(str, "How the step size changes: constant, step (a tenth at 1/2 and 3/4), "
                       "exponential (to a hundredth) or cosine (to 0).")
Warmup = option(float, "Epochs in which the step size rises from 0.")
LabelSmoothing = option(float, "The part of each label that all classes share.")
Ema = option(float | None, "Keep the moving average of the weights, by this factor a step (0.99).")
Balance = option(str | None, "Let rare classes count for more in the loss: median (by the median "
                             "of their shares), log (1 / ln(1.02 + share)) or mild (1.1).")
Jaccard = option(float, "Segmentation: the weight, beside cross entropy, of a soft mean IoU (1).")
Whiten = option(str | None, "Whiten the images inside the model, by the training images' "
                            "covariance: zca or pca.  [default: mean and deviation]")
Width = option(float | None, "The factor of all channels of the network.  [default: 1]")
From = option(str | None, "Start from the weights of this run, under a new head.", "--from")
Weights = option(str | None, "For networks of keras.applications: imagenet, or a file of weights.")
Trunk = option(str | None, "For detect and describe: a network of `handgrad models` whose "
                           "features are used.  [default: a small one]")
Freeze = option(int, "With --from: so many of the first layers with weights stay as they are.")
HeadLearningRate = option(float | None, "With --from: the head's step size.  "
                                        "[default: --learning-rate]")
WeightDecay = option(float, "lambda of the penalty 1/2 lambda W^2; with adamw the part of W that "
                            "a step takes, times the step size.")
Precision = option(str, "float32, or 16 bits on weights of 32: mixed_bfloat16, mixed_float16.")
Xla = option(bool | None, "Let XLA compile each step: on a CPU quicker for many small layers, "
                          "slower for large convolutions.  [default: on a GPU]", "--xla/--no-xla")
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
Views = option(str | None, "Average over views of each image, or each of its pixels, as well: "
                           "flip, shift (by a pixel, five), or both.")
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
Files = argument(list[Path] | None, "Images, or folders of them; a generator takes none.")
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
