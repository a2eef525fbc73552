"""The command that works for a chief: tune --worker."""

from app.console import console
from tuning.remote import Link, work


def run_trials(chief, name, patience):
    def say(text):
        console.note(f"worker {name}: {text}")

    count = work(Link(chief, name, patience, say))
    console.result({"worker": name, "trials": count},
                   f"worker {name}: the search is over; {count} trials were run here")
