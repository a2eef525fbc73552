"""What commands share: where output goes, how errors end, quiet imports, progress."""

import contextlib
import functools
import json
import os
import shlex
import sys


class Console:
    """Results on standard output, everything else on standard error.

    Attributes:
        arguments: the command line.
        as_json: results are one JSON object.
        debug: errors show their traceback.
        resumable: what was done so far is kept, and the command goes on with it when it is
            given again with --resume.
    """

    def __init__(self):
        self.begin(())

    def begin(self, arguments):
        """Starts anew, with another command line."""
        self.stdout, self.arguments = sys.stdout, list(arguments)
        self.as_json = self.debug = self.resumable = False

    def result(self, value, text=None):
        """Prints a result: `value` as JSON, or `text` (a string or something rich can print)."""
        if self.as_json:
            print(json.dumps(value), file=self.stdout)
        elif isinstance(text, str):
            print(text, file=self.stdout)
        else:
            from rich.console import Console as RichConsole

            width = None if self.stdout.isatty() else 110
            # Names of classes and files may look like markup.
            RichConsole(file=self.stdout, width=width, highlight=False, markup=False,
                        emoji=False).print(text)

    def note(self, text):
        """Prints a line for people, on standard error."""
        print(text, file=sys.stderr, flush=True)

    @property
    def verbose(self):
        """Keras's `verbose`: a bar on a terminal, else a line an epoch."""
        return 1 if sys.stderr.isatty() else 2


console = Console()


def execute(app, arguments=None):
    """Runs a typer app; returns the exit code: 0, 1 (the work failed) or 2 (wrong usage)."""
    console.begin(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(console.arguments, standalone_mode=False, prog_name="handgrad")
        if code == 130:  # how typer ends at Ctrl-C
            return _say(f"Interrupted. {_how_to_continue()}", 1)
        return code if isinstance(code, int) else 0
    except BaseException as error:
        if console.debug:
            raise
        return _report(error)


def chatty(function):
    """A function that prints on standard error, whatever it calls: standard output is for results.
    """

    @functools.wraps(function)
    def to_stderr(*arguments, **keywords):
        with contextlib.redirect_stdout(_Stderr()):
            return function(*arguments, **keywords)

    return to_stderr


class _Stderr:
    """Standard error, whatever it is at the moment."""

    def __getattr__(self, name):
        return getattr(sys.stderr, name)


def _report(error):
    """One line on standard error; returns the exit code."""
    from app.errors import HandgradError, UsageError

    if isinstance(error, UsageError):
        return _say(error, 2)
    if isinstance(error, HandgradError):
        return _say(error, 1)
    if hasattr(error, "format_message"):  # the option parser's own errors
        return _say(error.format_message(), 2)
    if hasattr(error, "exit_code"):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return _say(f"Interrupted. {_how_to_continue()}", 1)
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return _say("Out of memory. Use a smaller --batch-size or --image-size.", 1)
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return _say(f"{error.strerror or error}{where}. {_how_to_continue()}", 1)
    if isinstance(error, Exception):
        return _say(f"{type(error).__name__}: {error} (--debug shows the traceback)", 1)
    raise error


def _how_to_continue():
    if not console.resumable:
        return ""
    again = [a for a in console.arguments if a not in ("--overwrite", "--resume")]
    return ("What was finished is kept. Continue with: "
            + shlex.join(["handgrad", *again, "--resume"]))


def _say(message, code):
    print("handgrad: " + " ".join(str(message).split()), file=sys.stderr)
    return code


def quiet_tensorflow():
    """Imports TensorFlow without the lines that it writes before its log level holds."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Trials run in processes beside this one: none may take all of a GPU's memory.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        import tensorflow  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
