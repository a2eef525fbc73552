"""Writes digits of the test part as PNG files, for `make demo` to predict."""

import sys
from pathlib import Path

from PIL import Image

from app.data import load


def main(folder, count=5):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = load("digits")
    for i, (image, label) in enumerate(zip(data.test.images[:count], data.test.labels)):
        name = f"{i}-is-a-{data.class_names[label]}.png"
        Image.fromarray(image[..., 0]).save(folder / name)


if __name__ == "__main__":
    main(sys.argv[1])
