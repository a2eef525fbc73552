"""What the tests of search share."""

import json

import numpy as np

from app.runs import Config, Run
from tuning.search import Search


def start(folder, data, **settings):
    config = Config("mlp", "digits", search=True, fingerprint=data.fingerprint,
                    **{"epochs": 2, **settings})
    return Run(folder, config)


def journal(run):
    lines = (run.path / "search" / "journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def job(folder, **changes):
    config = Config("mlp", "digits", **{"epochs": 3, "fingerprint": "here", **changes})
    return {"config": vars(config), "folder": str(folder), "before": None, "until": config.epochs,
            "objective": "val_accuracy"}


def ended(search, trial, score):
    values, own = search.values(trial)
    record = {"trial": trial.trial_id, "values": values, "tuner": own, "settings": {},
              "objective": search.plan.objective, "status": "COMPLETED",
              "reason": "" if score is None else None, "score": score, "loss": 1.0,
              "best_epoch": 1, "curve": [] if score is None else [score], "epochs": 1,
              "seconds": 1.0}
    search._keep(trial, record)


def played(run, data, plan, count):
    """A search of which so many trials are played, two at a time; their values."""
    search, rng, values = Search(run, data, plan), np.random.default_rng(0), {}
    running = []
    for _ in range(count):
        while len(running) < 2:
            trial = search._next(str(len({t.trial_id for t in running}) + 7 * len(values)))
            if trial is None or trial.status != "RUNNING":
                break
            values[trial.trial_id] = dict(trial.hyperparameters.values)
            running.append(trial)
        if running:
            ended(search, running.pop(0), float(rng.random()))
    return search, values
