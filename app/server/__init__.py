"""A server of exports over HTTP, in TensorFlow Serving's REST form. Imports none of our layers."""
