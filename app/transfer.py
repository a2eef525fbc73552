"""Fine-tuning: a trained trunk under a new head."""

import keras

from app.errors import UsageError
from app.whitening import way_of

# The layer that gives images to a trunk of `keras.applications` as its weights expect them.
AS_PUBLISHED = "as_published"


def head_of(model):
    """The names of the layers that depend on the classes: the last with weights on each way."""
    return [layer.name for layer in last_layers(model) if layer.weights]


def last_layers(model):
    """The layers from the outputs back to the last with weights, on each way."""
    found, ahead = {}, [output._keras_history.operation for output in model.outputs]
    for layer in ahead:  # which grows
        if layer in found or isinstance(layer, keras.layers.InputLayer):
            continue
        found[layer] = True
        if not layer.weights:
            ahead += [x._keras_history.operation
                      for node in layer._inbound_nodes for x in node.input_tensors]
    return list(found)


def statistics_of(model):
    """How a network normalises images, which its trunk expects: (mean, deviation), the way that
    it whitens them, `AS_PUBLISHED`, or None.
    """
    for layer in model.layers:
        if layer.name == "normalize":
            return layer.mean.numpy().ravel(), layer.variance.numpy().ravel() ** 0.5
        if layer.name == AS_PUBLISHED:
            return AS_PUBLISHED
        if hasattr(layer, "layers"):  # a trunk
            return statistics_of(layer)
    return way_of(model)


def transfer(model, source, *, head=None, freeze=0):
    """Gives `model` the weights of the trained `source`, but for its head; freezes first layers.

    head: the names of the layers that keep their own, by default those of `head_of`.

    Raises:
        UsageError: where the trunks differ, naming the first layer that does; where there are
            not as many layers as are to be frozen.
    """
    head = head_of(model) if head is None else head
    trunk = [layer for layer in model.layers if layer.weights and layer.name not in head]
    if not 0 <= freeze <= len(trunk):
        raise UsageError(f"--freeze must be 0 to {len(trunk)}, the layers with weights below the "
                         f"head of '{model.name}'. Received: {freeze}")
    given = {layer.name: layer for layer in source.layers}
    for layer in trunk:
        found = [tuple(w.shape) for w in given[layer.name].weights] if layer.name in given else []
        expected = [tuple(w.shape) for w in layer.weights]
        if found != expected:
            raise UsageError(
                f"The weights of '{source.name}' (images {_by(source)}) do not fit "
                f"'{model.name}' (images {_by(model)}). The first that differ are of "
                f"layer '{layer.name}': expected {expected}. "
                f"Received: {found or 'no such layer'}")
        layer.set_weights(given[layer.name].get_weights())
    for layer in trunk[:freeze]:
        layer.trainable = False


def _by(model):
    return "x".join(map(str, model.inputs[0].shape[1:]))
