"""What commands share: where output goes, how errors end, quiet imports, progress."""

import contextlib
import json
import os
import sys


class Console:
    """Results on standard output, everything else on standard error.

    as_json: results are one JSON object.
    debug: errors show their traceback.
    """

    as_json = False
    debug = False

    def __init__(self):
        self.stdout = sys.stdout

    def result(self, value, text=None):
        """Prints a result: `value` as JSON, or `text` (a string or something rich can print)."""
        if self.as_json:
            print(json.dumps(value), file=self.stdout)
        elif isinstance(text, str):
            print(text, file=self.stdout)
        else:
            from rich.console import Console as RichConsole

            width = None if self.stdout.isatty() else 110
            RichConsole(file=self.stdout, width=width, highlight=False).print(text)

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
    console.stdout = sys.stdout
    console.as_json = console.debug = False
    with contextlib.redirect_stdout(_Stderr()):
        try:
            code = app(arguments, standalone_mode=False, prog_name="handgrad")
            return code if isinstance(code, int) else 0
        except BaseException as error:
            if console.debug:
                raise
            return _report(error)


class _Stderr:
    """Standard error, whatever it is at the moment (help is asked for, tests capture it)."""

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
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return _say("Interrupted. What was finished is kept: --resume continues it.", 1)
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return _say("Out of memory. Use a smaller --batch-size or --image-size.", 1)
    if isinstance(error, OSError):
        return _say(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), 1)
    if isinstance(error, Exception):
        return _say(f"{type(error).__name__}: {error} (--debug shows the traceback)", 1)
    raise error


def _say(message, code):
    print("handgrad: " + " ".join(str(message).split()), file=sys.stderr)
    return code


def quiet_tensorflow():
    """Imports TensorFlow without the lines that it writes before its log level holds."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        import tensorflow  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
