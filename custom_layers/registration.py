"""The name under which Keras finds our classes again: `custom_layers>Dense` in saved files."""

import keras

register = keras.saving.register_keras_serializable("custom_layers")
