"""Classification: which class an image is of."""

from app import data as data_sets, evaluation
from app.compiling import compile_model
from app.models import MODELS, served
from app.tasks.task import Task


class Classification(Task):
    """One class an image; the networks give logits."""

    name, averaged = "classify", True
    loss_settings = ("class_weights",)
    data_sets, networks = data_sets.DATA_SETS, MODELS

    def load(self, source, **settings):
        return data_sets.load(source=source, **settings)

    def compile(self, network, model, **settings):
        return compile_model(network, network=model, **settings)

    def examples(self, network, model):
        outputs = len(network.outputs)
        # The same labels for each output.
        return None if outputs == 1 else lambda x, y: (x, (y,) * outputs)

    def some(self, data):
        """One test image of each class."""
        test = data.test
        return {name: image for label, name in enumerate(data.class_names)
                for image in test.images[test.labels == label][:1]}

    def loaded(self, network):
        return served(network)

    def evaluate(self, network, split, data):
        return evaluation.evaluate(network, split, data.class_names)


TASK = Classification()
