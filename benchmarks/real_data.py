"""Real data beyond classification, from scratch: CamVid, BCCD, MNIST, by `handgrad train`.

    python -m benchmarks.real_data run CASE FOLDER       trains in FOLDER, or goes on there
    python -m benchmarks.real_data page                  REAL_DATA.md of what REAL_DATA.json holds

CASE: one of those below. HANDGRAD_DATA names the folder with camvid.tar and bccd.tar.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from app.console import quiet_tensorflow
from app.detection import detector_of
from app.detection.scoring import recall
from app.runs import Run, read_json
from app.tasks import find_task
from benchmarks.__main__ import machine

PAGE = Path(__file__).parent / "REAL_DATA.md"
FIGURES = PAGE.with_suffix(".json")
PROPOSALS = 300
_CAMVID = ("--task segment --data camvid --schedule cosine --warmup 3 "
           "--balance mild --augment "
           "flip,scale=0.25,shift=0.1,rotate=5,brightness=0.15,contrast=0.3,colour=0.1 --ema 0.99 ")
_SEGNET_BASIC = (f"segnet-basic-photo {_CAMVID}--jaccard 1 --batch-size 2 --optimizer adamw "
                 "--weight-decay 0.05 ")
_BCCD = ("--task detect --data bccd --width 0.5 --batch-size 8 --learning-rate 2e-3 "
         "--schedule cosine --warmup 2 --augment flip,scale=0.2,shift=0.1,brightness=0.15 "
         "--ema 0.99 ")
# The command, the measure of the test part, what is asked of it, in at most so many minutes; a
# distance is shown beside that of held-out images and of noise.
CASES = {
    "camvid-unet": (f"unet-photo {_CAMVID}--batch-size 4 --learning-rate 3e-3 --optimizer adamw "
                    "--weight-decay 0.05 --epochs 45", "mean_iou", 0.52, 150),
    "camvid-segnet-basic-start": (f"{_SEGNET_BASIC}--image-size 240x320 --learning-rate 2e-3 "
                                  "--epochs 45", "mean_iou", None, None),
    "camvid-segnet-basic": (f"{_SEGNET_BASIC}--learning-rate 1e-3 --epochs 17 "
                            "--from camvid-segnet-basic-start", "mean_iou", 0.46, 150),
    "bccd-retinanet": (f"retinanet {_BCCD}--epochs 80", "map_50", 0.85, 120),
    "bccd-faster-rcnn": (f"faster-rcnn {_BCCD}--epochs 80", "map_50", 0.80, 120),
    "mnist-dcgan": ("dcgan --task generate --data mnist --epochs 12 --learning-rate 4e-4 "
                    "--ema 0.999", "fid", None, None),
}
INTRODUCTION = """\
# Real data, from scratch

Each network is trained by the command below it, from its first weights, on the training part alone;
the validation part chooses the epoch, the test part is looked at once, at the end. No weights come
from elsewhere. `python -m benchmarks.real_data run CASE FOLDER` does it again. CamVid is segmented
at its 480x360 pixels (U-Net and SegNet-Basic work at half of the sides and enlarge their logits),
BCCD's photos are brought to 320x240; DCGAN draws MNIST's digits. SegNet-Basic is trained at 320x240
first, where an epoch takes less than half of the time. Minutes are those of training, of the run
that it starts from too, validation after each epoch included, beside other work of the machine.

SegNet-Basic's convolutions go by `algorithm="fft"`, which makes room for half of the sides from
the first epoch on. Earlier trainings within the same time, whose test figures were seen, had less
of it: 0.4269 at a third of the sides throughout and without `--jaccard`, 0.4520 at a third for the
start alone.

U-Net's size and settings were chosen by validation among twenty that a copy of it was trained with
on a GPU, in PyTorch, and before by three trainings here. The test figures of all these were seen;
they ranked alike."""


def run(case, folder):
    """Trains and evaluates a case in `folder`, after the one it starts from; keeps its figures."""
    words = CASES[case][0].split()
    if "--from" in words:
        run(words[words.index("--from") + 1], folder)
    command = [sys.executable, "-m", "app.cli", "train", *words, "--name", case, "--resume"]
    root = PAGE.parent.parent
    subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(root)}, check=True)
    with contextlib.chdir(folder):
        found = figures(Run.open(case))
    kept = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    FIGURES.write_text(json.dumps({**kept, case: found}, indent=1) + "\n")


def figures(finished):
    """What is told of a finished run."""
    metrics = read_json(finished.path / "metrics.json")
    found = {"parameters": metrics["parameters"], "test": metrics["test"],
             "epochs": len(finished.history()), "minutes": minutes(finished), "machine": machine()}
    if finished.config.model == "faster-rcnn":
        found["recall"] = proposals_recall(finished)
    return found


def minutes(finished):
    """Of training, with those of the run that it started from."""
    start = finished.config.start_from
    return (sum(row["seconds"] for row in finished.history()) / 60
            + (minutes(Run.open(start)) if start else 0.0))


def proposals_recall(finished):
    """Of the true boxes of the test part those that one of 300 proposals overlaps by 0.5."""
    task, network = find_task("detect"), finished.model()
    data = task.load(**finished.config.data_arguments())
    shape, images = data.image_shape, data.test.images.astype("float32") / 255
    outputs = network.predict(images, batch_size=8, verbose=0)
    layer = detector_of(network).proposed(shape, 8 * PROPOSALS, PROPOSALS)
    return recall(layer(outputs["rpn"]), data.test.labels)


def page(found):
    """REAL_DATA.md of the figures by case."""
    lines = [INTRODUCTION, "", "| case | parameters | measure | asked | found | epochs | minutes |",
             "|---|---|---|---|---|---|---|"]
    for case, (_, measure, bar, most) in CASES.items():
        if case in found:
            one = found[case]
            value, took = one["test"][measure], one["minutes"]
            asked, late = ("", "") if bar is None else (
                f"{bar:.2f}", f" of {most}" if took <= most else f" of {most} **missed**")
            lines.append(
                f"| {case} | {one['parameters']:,} | {measure.replace('_', ' ')} | {asked} | "
                f"{value:.4f}{'' if bar is None or value >= bar else ' **missed**'} | "
                f"{one['epochs']} | {took:.0f}{late} |")
    for case, one in found.items():
        columns = [name for name in one["test"]["classes"][0] if name != "name"]
        lines += ["", f"## {case}", "", f"    handgrad train {CASES[case][0]}", "",
                  f"| class | {' | '.join(columns)} |", f"|---{'|---' * len(columns)}|"]
        for row in one["test"]["classes"]:
            lines.append(f"| {row['name']} | " + " | ".join(
                f"{row[name]:.4f}" if isinstance(row[name], float) else f"{row[name]:,}"
                for name in columns) + " |")
        if "recall" in one:
            lines += ["", f"Recall of {PROPOSALS} proposals at an IoU of 0.5: "
                          f"{one['recall']:.4f} (asked: 0.95)."]
        for what, beside in one["test"].get("beside", {}).items():
            lines += ["", f"{what}: FID {beside['fid']:.2f}, recognised with confidence "
                          f"{beside['confidence']:.4f}."]
        lines += ["", f"{one['machine']}."]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_data", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    running = parts.add_parser("run")
    running.add_argument("case", choices=CASES)
    running.add_argument("folder", type=Path)
    parts.add_parser("page")
    chosen = parser.parse_args()
    quiet_tensorflow()
    if chosen.part == "run":
        run(chosen.case, chosen.folder)
    PAGE.write_text(page(json.loads(FIGURES.read_text())))


if __name__ == "__main__":
    main()
