"""Small SavedModels for the tests of the server, and a client of its ASGI application."""

import asyncio
import json

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

F, S = tf.float32, tf.string


def spec(dtype, *shape, name):
    return tf.TensorSpec(shape, dtype, name=name)


def save(folder, signatures, methods=()):
    """Writes {name: (function, its TensorSpecs)} as a SavedModel; methods: {name: method}."""
    module = tf.Module()
    module.weight = tf.Variable(0.5)
    made = {name: tf.function(function, input_signature=specs)
            for name, (function, specs) in signatures(module).items()}
    tf.saved_model.save(module, str(folder), made)
    if methods:
        path = folder / "saved_model.pb"
        saved = saved_model_pb2.SavedModel()
        saved.ParseFromString(path.read_bytes())
        for name, method in dict(methods).items():
            saved.meta_graphs[0].signature_def[name].method_name = f"tensorflow/serving/{method}"
        path.write_bytes(saved.SerializeToString())


def half(added=2.0):
    """x/2 + 2, a scalar a row, as TensorFlow Serving's own test model."""
    return lambda module: {"serving_default": (
        lambda x: {"y": x * module.weight + added}, [spec(F, None, name="x")])}


def two(module):
    return {"serving_default": (
        lambda a, b: {"sum": a + tf.cast(b, F)[:, None], "difference": a - tf.cast(b, F)[:, None]},
        [spec(F, None, 2, name="a"), spec(tf.int32, None, name="b")])}


def types(module):
    """A signature for each type: what comes is given back."""
    kinds = [F, tf.float64, tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint32, tf.uint64,
             tf.bool, S, tf.float16]
    same = {kind.name: (lambda x: {"y": tf.identity(x)}, [tf.TensorSpec(None, kind, name="x")])
            for kind in kinds}
    return same | {
        "encoded": (lambda x: {"y_bytes": tf.identity(x)}, [spec(S, None, name="x")]),
        "scalar": (lambda x: {"y": tf.reduce_sum(x)}, [spec(F, None, name="x")]),
        "uneven": (lambda x: {"y": x, "z": tf.concat([x, x], 0)}, [spec(F, None, name="x")]),
        "refuses": (lambda x: {"y": tf.debugging.check_numerics(x, "no")},
                    [spec(F, None, name="x")]),
        "twice": (lambda x: {"y": tf.concat([x, x], 0)}, [spec(F, None, name="x")]),
        "divided": (lambda x: {"y": 1 / x}, [spec(F, None, name="x")])}


def pictures(module):
    def mean(image_bytes):
        return {"mean": tf.map_fn(lambda c: tf.reduce_mean(tf.cast(tf.io.decode_image(
            c, expand_animations=False), F)), image_bytes, fn_output_signature=F)}

    def judged(inputs):
        feature = {"image_bytes": tf.io.FixedLenFeature((), S)}
        found = mean(tf.io.parse_example(inputs, feature)["image_bytes"])["mean"]
        return {"scores": found[:, None], "classes": tf.fill((tf.size(found), 1), "mean")}

    return {"serving_default": (mean, [spec(S, None, name="image_bytes")]),
            "judged": (judged, [spec(S, None, name="inputs")])}


def judges(module):
    """classify and regress, of a feature x."""
    def parsed(inputs):
        return tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature((), F, -1.0)})["x"]

    def classify(inputs):
        x = parsed(inputs)
        return {"scores": tf.stack([x, 1 - x], 1),
                "classes": tf.tile([["yes", "no"]], [tf.size(x), 1])}

    given = [spec(S, None, name="inputs")]
    return {"judge": (classify, given),
            "measure": (lambda inputs: {"outputs": 2 * parsed(inputs)[:, None]}, given)}


class Client:
    """Asks an ASGI application, without a network."""

    def __init__(self, application):
        self.application = application

    def ask(self, method, path, body=b"", headers=(), pieces=1):
        """(status, headers, body)"""
        return asyncio.run(self.asked(method, path, body, headers, pieces))

    async def asked(self, method, path, body=b"", headers=(), pieces=1):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        size = -(-len(body) // pieces) or 1
        parts = [body[i:i + size] for i in range(0, len(body), size)] or [b""]
        coming = [{"type": "http.request", "body": part, "more_body": i < len(parts) - 1}
                  for i, part in enumerate(parts)]
        sent = []

        async def receive():
            return coming.pop(0) if coming else await asyncio.Future()

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(),
                 "headers": [(k.lower().encode(), v.encode()) for k, v in headers],
                 "query_string": b""}
        await self.application(scope, receive, send)
        return (sent[0]["status"], dict(sent[0]["headers"]),
                b"".join(m.get("body", b"") for m in sent[1:]))

    def json(self, method, path, body=b"", **more):
        """(status, the JSON of the body)"""
        status, _, body = self.ask(method, path, body, **more)
        return status, json.loads(body)
