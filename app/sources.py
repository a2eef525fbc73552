"""The data sets known by name, and where a path leads. Imports neither TensorFlow nor Keras."""

import contextlib
import hashlib
import lzma
import os
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
from sklearn.datasets import load_digits

from app import images
from app.arrays import IMAGES_FILE, checked, has_idx, read_idx, read_npz
from app.errors import HandgradError, UsageError, unknown
from app.folder import read_folder
from app.split import Source

DIGITS = tuple("0123456789")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
FASHION += ("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer")
CIFAR10 += ("dog", "frog", "horse", "ship", "truck")


def digits():
    """scikit-learn's 1,797 handwritten digits, 8x8. Their values 0..16 are scaled to 0..255."""
    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return Source("scikit-learn", DIGITS, checked(pixels, bunch.target, "digits"))


def mnist():
    """MNIST: the folder `mnist` of $HANDGRAD_DATA, else Keras's download."""
    return _idx_or_download("mnist", DIGITS)


def fashion_mnist():
    """Fashion-MNIST: the folder `fashion_mnist` of $HANDGRAD_DATA, else Keras's download."""
    return _idx_or_download("fashion_mnist", FASHION)


def cifar10():
    """CIFAR-10: `cifar10.tar.xz` of $HANDGRAD_DATA (a JPEG copy), else Keras's download."""
    folder = data_folder()
    archive = folder / "cifar10.tar.xz" if folder else None
    if archive is None or not archive.is_file():
        return _download("cifar10", CIFAR10,
                         "cifar10.tar.xz (cifar10/train/airplane/0001.jpg ...)")
    return replace(read_tar(archive, CIFAR10), origin=f"CIFAR-10 (JPEG copy), {archive}")


def read_tar(archive, class_names):
    """Reads an archive of `<name>/{train,test}/<class>/<image>`, all of one size, in colour.

    Decoded once: the arrays are kept in `cache_folder()`, under a name made of the archive's
    contents, and read from there the next time.
    """
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()[:16]
    cached = cache_folder() / f"{archive.name.split('.')[0]}-{digest}.npz"
    if not cached.is_file():
        _keep(_decode_tar(archive, class_names), cached)
    return read_npz(cached, class_names)


def cache_folder():
    """Where decoded archives are kept: $XDG_CACHE_HOME/handgrad, else ~/.cache/handgrad."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "handgrad"


class DataSet(NamedTuple):
    """A data set known by name: a line for people, and its reader."""

    description: str
    read: Callable[[], Source]


DATA_SETS = {
    "digits": DataSet("1,797 handwritten digits, 8x8 grey, 10 classes; built in", digits),
    "mnist": DataSet("70,000 handwritten digits, 28x28 grey, 10 classes", mnist),
    "fashion_mnist": DataSet("70,000 pictures of clothes, 28x28 grey, 10 classes", fashion_mnist),
    "cifar10": DataSet("60,000 photos, 32x32 colour, 10 classes", cifar10),
}


def read(source, *, image_size=None, skip_corrupt=False):
    """Reads a data set by its name or from a path; a name goes before a path of that name."""
    size = images.parse_size(image_size)
    if source in DATA_SETS:
        found = DATA_SETS[source].read()
    else:
        path = Path(source).expanduser()
        if path.is_dir() and not has_idx(path):
            return read_folder(path, size=size, skip_corrupt=skip_corrupt)
        found = _read_arrays(path, source)
    if size is None:
        return found
    resized = {
        name: replace(part, images=images.resize(part.images, size))
        for name, part in found.parts.items()
    }
    return replace(found, **resized)


def _read_arrays(path, source):
    if not path.exists():
        expected = "or the path of a folder of class folders or of IDX files, or of an .npz archive"
        if path.name != str(source) or path.suffix:
            known = ", ".join(DATA_SETS)
            raise UsageError(f"{source} does not exist. Expected: one of {known}, {expected}")
        raise UsageError(f"{unknown('data set', source, list(DATA_SETS))}, {expected}")
    if path.is_dir() or IMAGES_FILE.search(path.name):
        return read_idx(path)
    if path.suffix == ".npz":
        return read_npz(path)
    raise UsageError(
        f"{source} is no data set: expected a folder of class folders or of IDX files, a file "
        "named ...-images-idx3-ubyte or ...-images-idx3-ubyte.gz, or an .npz archive."
    )


def data_folder():
    """The folder that $HANDGRAD_DATA names, or None where it is unset."""
    name = os.environ.get("HANDGRAD_DATA")
    if name and not Path(name).is_dir():
        raise HandgradError(
            f"HANDGRAD_DATA names a folder that does not exist: {name}. "
            "Correct it, or unset it to download data sets instead."
        )
    return Path(name) if name else None


def archive(name, form):
    """The archive `name` of $HANDGRAD_DATA; `form` says what lies in it."""
    folder = data_folder()
    if folder is None or not (folder / name).is_file():
        raise HandgradError(f"{name} ({form}) is looked for in the folder that HANDGRAD_DATA "
                            "names, and is not there. Set it, or use --data digit-scenes, which is "
                            "built in.")
    return folder / name


def _idx_or_download(name, class_names):
    folder = data_folder()
    if folder and (folder / name).is_dir():
        return read_idx(folder / name, class_names)
    form = f"its four IDX files (train-images-idx3-ubyte.gz ...) as {name}/"
    return _download(name, class_names, form)


def _download(name, class_names, form):
    """Keras's download; `form` says what stands for it in $HANDGRAD_DATA."""
    import keras

    try:
        # Keras draws its progress on stdout, which --json keeps for the result.
        with contextlib.redirect_stdout(sys.stderr):
            (x, y), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises a bare Exception when an address cannot be reached.
        raise HandgradError(
            f"'{name}' could not be downloaded ({_line(error)}). Without a network, put {form} "
            "into a folder and set HANDGRAD_DATA to it, or use --data digits, which is built in."
        ) from error
    return Source(
        "downloaded by Keras", class_names, checked(x, y, name), test=checked(x_test, y_test, name)
    )


def _decode_tar(archive, class_names):
    """The arrays of an archive, as `read_npz` wants them."""
    arrays = {"x_train": [], "y_train": [], "x_test": [], "y_test": []}
    try:
        with tarfile.open(archive) as tar:
            # One pass, in the order of the archive: going back would unpack it from the start.
            for member in images.progress(tar, None, f"Decoding {archive.name}"):
                if images.is_image(member.name):
                    *_, part, name, _ = ("", "", *Path(member.name).parts)
                    if f"x_{part}" not in arrays or name not in class_names:
                        raise ValueError(f"{member.name} is of no known class")
                    pixels = images.decode(tar.extractfile(member).read(), None, 3)
                    arrays[f"x_{part}"].append(pixels)
                    arrays[f"y_{part}"].append(class_names.index(name))
        if not all(arrays.values()):
            raise ValueError("it must hold training and test images")
        return {key: np.array(values) for key, values in arrays.items()}
    except (tarfile.TarError, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise HandgradError(f"{archive} cannot be read: {_line(error)}. Fetch it again.") from error


def _keep(arrays, cached):
    aside = cached.with_suffix(f".{os.getpid()}.part")
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        # Written aside and renamed: a kill in the middle leaves no half of a cache.
        with open(aside, "wb") as file:
            np.savez(file, **arrays)
        os.replace(aside, cached)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise HandgradError(
            f"The decoded images cannot be kept in {cached.parent}: {_line(error)}. Set "
            "XDG_CACHE_HOME to a folder that can be written to."
        ) from error


def _line(error):
    return " ".join(str(error).split())
