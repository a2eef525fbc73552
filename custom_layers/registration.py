"""The name under which Keras finds our classes again, and their own name in what they refuse."""

import functools
import inspect

import keras


def register(it):
    """Registers a class or function as `custom_layers>Dense`, as it stands in saved files.

    A ValueError of a class names that class, also where it comes from Keras, whose own often do
    not; no argument of a constructor may be NaN, which passes most comparisons unseen.
    """
    keras.saving.register_keras_serializable("custom_layers")(it)
    if isinstance(it, type):
        signature = inspect.signature(it.__init__)
        it.__init__ = _named(_without_nan(it.__init__))
        it.__init__.__signature__ = signature  # Keras reads it without following the wrappers
        # Of what a layer's `call` raises, Keras itself says in which layer.
        layer = issubclass(it, keras.layers.Layer)
        for method in ("build", "_assert_input_compatibility") if layer else ("__call__",):
            if hasattr(it, method):
                setattr(it, method, _named(getattr(it, method)))
    return it


def _named(function):
    @functools.wraps(function)
    def named(self, *args, **kwargs):
        try:
            return function(self, *args, **kwargs)
        except ValueError as error:
            message = str(error)
            if type(error) is not ValueError or type(self).__name__ in message:
                raise
            name = getattr(self, "name", None)
            if name is not None and name in message:
                raise
            error = ValueError(f"{type(self).__name__}: {message}").with_traceback(
                error.__traceback__)
            raise error from None

    return named


def _without_nan(init):
    @functools.wraps(init)
    def without_nan(self, *args, **kwargs):
        init(self, *args, **kwargs)
        if any(value != value for value in (*args, *kwargs.values()) if type(value) is float):
            given = inspect.signature(init).bind(self, *args, **kwargs).arguments
            given = {**given.pop("kwargs", {}), **given}
            name = next(n for n, v in given.items() if type(v) is float and v != v)
            raise ValueError(f"`{name}` must be a number. Received: {name}=nan")

    return without_nan
