"""Pascal VOC: a folder or a .tar of images, an XML file of boxes for each, and lists of parts."""

import io
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path, PurePosixPath

from app.detection.annotations import loaded
from app.errors import HandgradError
from app.split import Source, Split

BCCD = ("RBC", "WBC", "Platelets")
_FOLDERS = {"Annotations", "ImageSets", "JPEGImages"}
PARTS = {"train": "train", "validation": "val", "test": "test"}  # by our names, of ImageSets/Main


def read_voc(path, *, class_names=None, image_size=None):
    """The `Source` of a data set in Pascal VOC's layout, its labels (N, M, 5).

    JPEGImages/*.jpg, Annotations/*.xml and ImageSets/Main/{train,val,test}.txt, in the folder or
    the archive itself or one folder deeper. A part without list is none. VOC counts pixels from
    1 and a box holds its last ones: (xmin, ymin, xmax, ymax) is (xmin - 1, ymin - 1, xmax, ymax).

    Args:
        class_names: the names and their order; by default all that occur, sorted.
        image_size: (height, width) that images are stretched to; by default their own.

    Raises:
        HandgradError: one line that names the file, for what is missing or broken.
    """
    files = _files(Path(path))
    listed = {part: files[f"ImageSets/Main/{name}.txt"].decode().split()
              for part, name in PARTS.items() if f"ImageSets/Main/{name}.txt" in files}
    if not listed.get("train"):
        raise HandgradError(f"{path} is no data set in Pascal VOC's layout: expected the names of "
                            "its training images in ImageSets/Main/train.txt")
    found = {part: [_annotation(files, name, path) for name in names]
             for part, names in listed.items() if names}
    occurring = {name for part in found.values() for _, rows in part for *_, name in rows}
    class_names = tuple(class_names or sorted(occurring))
    unknown = sorted(occurring - set(class_names))
    if unknown:
        raise HandgradError(f"{path} has objects '{unknown[0]}'. "
                            f"Expected one of: {', '.join(class_names)}")
    parts = {part: _split(files, listed[part], rows, class_names, image_size)
             for part, rows in found.items()}
    return Source(str(path), class_names, **parts)


def _files(path):
    """{path below the data set's root: the bytes}, of the files that are read."""
    if path.is_dir():
        read = {PurePosixPath(p.relative_to(path)): p.read_bytes()
                for p in path.rglob("*") if _FOLDERS & set(p.parts) and p.is_file()}
    else:
        try:
            with tarfile.open(path) as archive:
                read = {PurePosixPath(member.name): archive.extractfile(member).read()
                        for member in archive
                        if _FOLDERS & set(PurePosixPath(member.name).parts) and member.isfile()}
        except (OSError, tarfile.TarError) as error:
            reason = getattr(error, "strerror", None) or error
            raise HandgradError(f"{path} could not be read as a .tar archive: {reason}") from None
    deeper = not any(p.parts[0] == "ImageSets" for p in read)
    return {str(PurePosixPath(*p.parts[deeper:])): data for p, data in read.items()}


def _annotation(files, name, path):
    """(name of the annotation, [(x1, y1, x2, y2, class name)]) of an image."""
    where = f"{path}: Annotations/{name}.xml"
    for needed in (f"Annotations/{name}.xml", f"JPEGImages/{name}.jpg"):
        if needed not in files:
            raise HandgradError(f"{path}: {needed} is missing, and its image is listed in "
                                "ImageSets/Main")
    try:
        root = ElementTree.fromstring(files[f"Annotations/{name}.xml"])
    except ElementTree.ParseError as error:
        raise HandgradError(f"{where} is no XML: {error}") from None
    rows = []
    for thing in root.iter("object"):
        try:
            x1, y1, x2, y2 = (float(thing.find("bndbox").find(side).text)
                              for side in ("xmin", "ymin", "xmax", "ymax"))
            rows.append((x1 - 1, y1 - 1, x2, y2, thing.find("name").text.strip()))
        except (AttributeError, TypeError, ValueError):
            raise HandgradError(f"{where}: expected in each object a name and a bndbox of the "
                                "numbers xmin, ymin, xmax, ymax") from None
    return where, rows


def _split(files, names, found, class_names, image_size):
    indexed = [[(*box, class_names.index(kind)) for *box, kind in rows] for _, rows in found]
    pictures = [f"JPEGImages/{name}.jpg" for name in names]
    images, labels = loaded([io.BytesIO(files[picture]) for picture in pictures], indexed,
                            [where for where, _ in found], image_size)
    return Split(images, labels, tuple(pictures))
