"""COCO: a JSON file of images, categories and boxes, and the images beside it."""

import json
from pathlib import Path

from app.detection.annotations import loaded
from app.errors import HandgradError
from app.split import Source, Split

# The folders of parts, by our names.
PARTS = {"train": ("train",), "validation": ("valid", "val", "validation"), "test": ("test",)}


def read_coco(path, *, image_size=None):
    """The `Source` of a data set in COCO's format, its labels (N, M, 5).

    A JSON file is the training part; a folder has the folders train, valid and test (the last
    two may be missing), each with one JSON file. Images are named from the folder of their JSON
    file on, or from its folder `images`. Classes are the categories by rising id. Regions that
    are crowds are left out; an image without boxes shows none of the classes.

    Args:
        image_size: (height, width) that images are stretched to; by default their own.

    Raises:
        HandgradError: one line that names the file, for what is missing or broken.
    """
    path = Path(path)
    files = {"train": path} if path.is_file() else _parts(path)
    parsed = {part: _parsed(file) for part, file in files.items()}
    categories = _categories(path, parsed)
    order = {identity: i for i, identity in enumerate(sorted(categories))}
    parts = {part: _split(files[part], found, order, image_size)
             for part, found in parsed.items()}
    return Source(str(path), tuple(categories[identity] for identity in order), **parts)


def _categories(path, parsed):
    """{id: name} of the categories of all parts, each of which must have one name."""
    categories = {}
    for part, found in parsed.items():
        for identity, name in found["categories"].items():
            if categories.setdefault(identity, name) != name:
                raise HandgradError(f"{path}: the category {identity} must have one name. "
                                    f"Received: {categories[identity]}, and {name} in its {part} "
                                    "part")
    return categories


def _parts(path):
    found = {}
    for part, names in PARTS.items():
        for folder in (path / name for name in names if (path / name).is_dir()):
            files = sorted(folder.glob("*.json"))
            if len(files) != 1:
                raise HandgradError(f"{folder} must have one JSON file of annotations. "
                                    f"Received: {len(files)}")
            found[part] = files[0]
    if "train" not in found:
        raise HandgradError(f"{path} is no data set in COCO's format: expected a JSON file of "
                            "annotations, or a folder with the folder train in it")
    return found


def _parsed(file):
    try:
        found = json.loads(file.read_text())
        categories = {int(c["id"]): str(c["name"]) for c in found["categories"]}
        images = {i["id"]: i["file_name"] for i in found["images"]}
        boxes = [(a["image_id"], a["category_id"], tuple(map(float, a["bbox"])))
                 for a in found["annotations"] if not a.get("iscrowd")]
        if any(len(box) != 4 for *_, box in boxes):
            raise ValueError("a bbox must be four numbers: x, y, width, height")
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise HandgradError(f"{file} is not in COCO's format (images, annotations, categories): "
                            f"{reason}") from None
    if not images:
        raise HandgradError(f"{file} has no images")
    return {"categories": categories, "images": images, "boxes": boxes}


def _split(file, found, order, image_size):
    rows = {identity: [] for identity in found["images"]}
    for image, category, (x, y, width, height) in found["boxes"]:
        if image not in rows:
            raise HandgradError(f"{file}: an annotation names the image {image}, which is not in "
                                "its list of images")
        if category not in order:
            raise HandgradError(f"{file}: an annotation of image {image} names the category "
                                f"{category}. Known: {', '.join(map(str, order))}")
        rows[image].append((x, y, x + width, y + height, order[category]))
    places = []
    for name in found["images"].values():
        place = next((p for p in (file.parent / name, file.parent / "images" / name)
                      if p.is_file()), None)
        if place is None:
            raise HandgradError(f"{file} names the image {name}, which is neither in "
                                f"{file.parent} nor in {file.parent / 'images'}")
        places.append(place)
    names = [f"{file}: {name}" for name in found["images"].values()]
    images, labels = loaded(places, list(rows.values()), names, image_size)
    return Split(images, labels, tuple(map(str, places)))
