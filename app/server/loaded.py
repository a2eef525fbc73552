"""One version of a model, loaded and checked before it serves."""

import numpy as np
import tensorflow as tf

from app.checksums import FILE, differing
from app.server.encoded_images import IMAGES
from app.server.errors import RestError, of_tensorflow
from app.server.signatures import read


class Loaded:
    """A version that can be called.

    Each signature is called once before it serves, but for those that take text or tensors of any
    rank: what they accept is not known, and whether they work shows at their first request.

    Attributes:
        name, version, folder: which it is.
        signatures: {name: `signatures.Signature`}.
        metadata: the signatures as TensorFlow Serving's metadata has them.
        model: what `tf.saved_model.load` gave.
        batchers, viewer: what makes its calls, and what the page sees of it, by whoever serves
            it; they end with it.

    Raises:
        ValueError: with the reason, where the version must not serve.
    """

    def __init__(self, folder):
        self.folder, self.name, self.version = folder, folder.parent.name, int(folder.name)
        self.batchers, self.viewer = {}, None
        if (folder / FILE).exists() and (wrong := differing(folder)):
            raise ValueError(f"{wrong[0]} is not what was exported: see {FILE}")
        try:
            self.signatures, self.metadata = read(folder)
            # Held, since the signatures do not keep the variables alive.
            self.model = tf.saved_model.load(str(folder))
            self._functions = {name: self.model.signatures[name] for name in self.signatures}
        except Exception as error:  # a damaged file can raise anything
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(f"it cannot be loaded: {lines[0]}") from error
        for signature in self.signatures.values():
            self._call_once(signature)

    def call(self, signature, inputs):
        """{output: array} of {input: array}.

        Raises:
            RestError: where TensorFlow refuses the inputs.
        """
        given = signature.inputs
        try:
            outputs = self._functions[signature.name](**{
                name: tf.constant(value, given[name].dtype) for name, value in inputs.items()})
        except tf.errors.OpError as error:
            raise of_tensorflow(error) from error
        except (TypeError, ValueError) as error:
            raise RestError(str(error).splitlines()[0]) from error
        return {name: value.numpy() for name, value in sorted(outputs.items())}

    def _call_once(self, signature):
        """Makes it ready, and finds out whether it works at all."""
        inputs = {}
        for name, tensor in signature.inputs.items():
            if tensor.shape is None:
                return
            shape = [1 if size is None else size for size in tensor.shape]
            if tensor.dtype != tf.string:
                inputs[name] = np.zeros(shape, tensor.dtype.as_numpy_dtype)
            elif name == IMAGES:
                image = tf.io.encode_png(tf.zeros((8, 8, 3), tf.uint8)).numpy()
                inputs[name] = np.full(shape, image, object)
            else:  # nobody knows what text it takes
                return
        try:
            self.call(signature, inputs)
        except RestError as error:
            raise ValueError(f"its signature `{signature.name}` fails: {error}") from error
