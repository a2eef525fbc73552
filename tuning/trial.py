"""The process that trials run in: it reads a job a line, and replies in lines of JSON.

A graph that TensorFlow has made is never given back, so a process that runs trial after trial
grows without bound. This one is replaced every few trials, and whatever happens to it, out of
memory or worse, happens to a trial and not to the search.
"""

import json
import os
import queue
import sys
import threading

from app.errors import HandgradError, UsageError

OUT_OF_MEMORY, NO_SPACE = "out of memory", "no space left on the disk"


def main():
    """Runs the jobs that come on standard input; ends as soon as that does, in a job too."""
    # TensorFlow and others may print: standard output is the parent's, for replies alone.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    lines = queue.Queue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    from tuning.scoring import SearchFailed, run_trial  # it takes seconds, and may print

    def reply(value):
        replies.write(json.dumps(value) + "\n")

    def on_epoch(row):
        reply(row)
        return json.loads(lines.get())  # whether to go on

    loaded = {}
    reply({"ready": True})
    while True:
        job = json.loads(lines.get())
        try:
            reply(run_trial(job, loaded, on_epoch))
        except MemoryError:
            reply({"error": OUT_OF_MEMORY})
        except SearchFailed as error:
            reply({"error": _one_line(error), "fatal": True})
        except Exception as error:
            import traceback

            traceback.print_exc()
            reply({"error": _one_line(error)})


def _listen(lines):
    """Hands on what comes; without a parent there is nothing left to do."""
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


def _one_line(error):
    text = " ".join(str(error).split())
    name = type(error).__name__
    if name == "ResourceExhaustedError":
        return f"{OUT_OF_MEMORY}: {text[:200]}"
    if getattr(error, "errno", None) == 28 or "No space left on device" in text:
        return f"{NO_SPACE}: {text[:200]}"
    return text[:300] if isinstance(error, (HandgradError, UsageError)) else f"{name}: {text[:300]}"


if __name__ == "__main__":
    main()
