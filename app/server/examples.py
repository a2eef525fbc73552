"""classify and regress: examples as TensorFlow Serving's REST interface has them."""

import tensorflow as tf

from app.server.errors import RestError
from app.server.json_tensors import bytes_of, dump, has_tokens
from app.server.signatures import CLASSIFY, REGRESS

METHODS = {"classify": CLASSIFY, "regress": REGRESS}
_WORDS = {"classify": "classification", "regress": "regression"}


def chosen(signatures, name, method):
    """The signature that is asked for; without a name, the only one of the method, or the default.
    """
    fitting = [s for s in signatures.values() if s.method == METHODS[method]]
    if name is None and len(fitting) == 1:
        return fitting[0].name
    return name or "serving_default"


def check(signature, method):
    """Raises RestError where a signature is not for `method`."""
    if signature.method != METHODS[method]:
        raise RestError(f"Expected {_WORDS[method]} signature method_name to be "
                        f"{METHODS[method]}. Was: {signature.method}")


def serialized(request):
    """The examples of a request as serialised tf.train.Examples, those of the context in each."""
    context, examples = request.get("context", {}), request.get("examples")
    if "examples" not in request:
        raise RestError("When method is classify or regress, the key 'examples' is expected, and "
                        "was not found")
    if type(examples) is not list:
        raise RestError("Expecting 'examples' value to be a list")
    if not examples:
        raise RestError("'examples' must not be empty")
    if type(context) is not dict:
        raise RestError("Expecting 'context' value to be an object")
    for example in examples:
        if type(example) is not dict:
            raise RestError("Example must be JSON object but got JSON of another type")
    return [_example({**context, **example}) for example in examples]


def _example(features):
    made = {name: _feature(name, value) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


def _feature(name, value):
    values = value if type(value) is list else [value]
    kinds = set(map(type, values))
    try:
        if kinds <= {str, dict}:
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=map(bytes_of, values)))
        if kinds <= {int, bool}:
            return tf.train.Feature(int64_list=tf.train.Int64List(value=map(int, values)))
        if kinds <= {int, float}:
            return tf.train.Feature(float_list=tf.train.FloatList(value=map(float, values)))
    except (ValueError, OverflowError) as error:
        raise RestError(f"Example feature: {name} has a number out of range") from error
    raise RestError(f"Example feature: {name} must be values of one type: text, "
                    '{"b64": ...} or numbers')


def encode(method, outputs):
    """The JSON of a response: [[[label, score], ...], ...] or [value, ...]."""
    if method == "regress":
        return dump({"results": outputs["outputs"].reshape(-1)})
    scores, classes = outputs.get("scores"), outputs.get("classes")
    shape = (classes if scores is None else scores).shape
    return dump({"results": [
        [["" if classes is None else classes[i, j].decode(errors="replace"),
          0.0 if scores is None else scores[i, j]] for j in range(shape[1])]
        for i in range(shape[0])]}, has_tokens(scores))
