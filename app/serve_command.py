"""`handgrad serve`, when its extra is installed."""

import math
import os

from app.errors import UsageError

TOKEN = "HANDGRAD_TOKEN"


def serve(folder, host, port, latest, **options):
    try:
        from app.server.command import serve as run
        from app.server.rest import Options
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is missing. Install what serving needs: "
                         "pip install 'handgrad[serve]'") from error
    for name, value, least in (("--latest", latest, 1), ("--batch", options["batch"], 1),
                               ("--batch-wait", options["wait"], 0),
                               ("--queue", options["queue"], 1), ("--port", port, 0),
                               ("--request-mb", options["body"] / 1e6, 1e-6)):
        if value < least:
            raise UsageError(f"{name} must be at least {least}. Received: {value:g}")
    if port > 65535:
        raise UsageError(f"--port must be at most 65535. Received: {port}")
    if not 0 < options["timeout"] < math.inf:
        raise UsageError("--timeout must be above 0, and finite. "
                         f"Received: {options['timeout']:g}")
    # An empty variable is none to the command line: what was to hold the token was not set.
    if options["token"] == "" or options["token"] is None and os.environ.get(TOKEN) == "":
        raise UsageError(f"--token, or {TOKEN}, must not be empty: anybody could ask. Leave it "
                         "out where that is meant. Received: ''")
    run(folder, host=host, port=port, latest=latest,
        options=Options(threads=os.cpu_count() or 1, **options))
