"""`handgrad serve`, when its extra is installed."""

import os

from app.errors import UsageError


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
    if not options["timeout"] > 0:
        raise UsageError(f"--timeout must be above 0. Received: {options['timeout']:g}")
    run(folder, host=host, port=port, latest=latest,
        options=Options(threads=os.cpu_count() or 1, **options))
