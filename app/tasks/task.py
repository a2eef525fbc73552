"""What the commands ask of a kind of task; each task answers with its own."""

from app.compiling import optimizer_of
from app.errors import UsageError
from app.models import build, find
from app.task_export import image_samples, image_signatures
from app.tasks import TASKS, find_task
from app.transfer import head_of
from custom_layers.lean import lean


class Task:
    """A kind of task: its data, networks, training, evaluation, and what its export returns.

    Attributes:
        name: as `--task` names it; what is known of it without TensorFlow is `app.tasks.TASKS`.
        networks: {name: `app.models.Network`}.
        loss_settings: what `loss` can be told: "class_weights", None or a factor a class (by
            `app.balance`); "jaccard", the factor of a soft mean IoU.
        averaged: whether what is predicted of several views of an image can be averaged.
        trained_whole: whether the model that is kept and served is all that is trained.
    """

    name = ""
    data_sets, networks = {}, {}
    loss_settings = ()
    averaged, trained_whole = False, True

    @property
    def measure(self):
        """The `app.measures.Measure` that decides which epoch and which trial is best."""
        return TASKS[self.name].measure

    def find(self, model):
        """The network called `model`."""
        if model not in self.networks:
            for name in TASKS:
                if name != self.name and model in find_task(name).networks:
                    raise UsageError(f"The network '{model}' is for --task {name}. "
                                     f"Received: --task {self.name}")
        return find(model, self.networks)

    def load(self, source, **settings):
        """The `app.data.Data` of a name or a path; settings as in `app.data.load`."""
        raise NotImplementedError

    def build(self, model, data, **settings):
        """The network `model` for images and classes as in `data`."""
        return build(model, data.image_shape, len(data.class_names), self.networks,
                     **self.sizes(data), **settings)

    def sizes(self, data):
        """The settings of every network of the task that follow from the data."""
        return {}

    def compile(self, network, model, **settings):
        """Compiles `network`, called `model`; settings as in `app.compiling.optimizer_of`.

        Those of `loss_settings` are the loss's.
        """
        if settings.pop("label_smoothing", 0.0):
            raise UsageError("--label-smoothing is for classification. "
                             f"Received: --task {self.name}")
        of_loss = {name: settings.pop(name) for name in self.loss_settings}
        network.compile(optimizer_of(**settings), loss=self.loss(network, model, **of_loss),
                        metrics=self.metrics(network))
        return network

    def loss(self, network, model):
        """The loss that a network is trained with."""
        raise NotImplementedError

    def metrics(self, network):
        """What is measured in each epoch, on both parts."""
        return []

    def callbacks(self, network, model, train, validation):
        """What is measured after each epoch, beside the metrics."""
        return []

    def lean(self, network, **settings):
        """The compiled network that trains in less memory; settings as in `custom_layers.lean`."""
        return lean(network, **settings)

    moved = None
    """(labels, maps, image shape) -> labels, where they move with images that are augmented."""

    chosen = None
    """(labels, numbers in [0, 1)) -> labels, where each epoch draws one of several."""

    def examples(self, network, model):
        """(images in [0, 1], labels) -> (x, y) as the network is fitted to; None: as they are."""
        return None

    def some(self, data):
        """{name: image} of a few test images."""
        return {f"{data.name}-{i}": image for i, image in enumerate(data.test.images[:10])}

    def loaded(self, network):
        """The network that predicts, of the one that was trained."""
        return network

    def parts(self, network):
        """The models that a network is made of, each from its inputs to its outputs."""
        return [network]

    def head(self, network):
        """The names of the layers that a network with other classes does not take over."""
        return head_of(network)

    def image_shape(self, network):
        """(H, W, C) of the images of a network that was loaded."""
        return network.inputs[0].shape[1:]

    def evaluate(self, network, split, data):
        """How good a network is on a part of the data.

        What is returned has `measures`, {name: value} with the task's measure first, `as_dict()`,
        for JSON, and `table()`, for a terminal.
        """
        raise NotImplementedError

    def answer(self, network, class_names):
        """(images) -> {name: tensor}, in a graph: what an export returns, decoded."""
        raise NotImplementedError

    def signatures(self, network, data):
        """{signature: function} of an export."""
        return image_signatures(self.answer(network, data.class_names), data.image_shape)

    def samples(self, data, count):
        """{signature: {input: values}} that the check of an export asks for."""
        return image_samples(data.test.images, count)

    def takes(self, data):
        """{input: a line} for the card of an export."""
        return {"serving_default": f"images: float32 in [0, 1], {('batch', *data.image_shape)}",
                "image_bytes": "image_bytes: string, encoded image files, ('batch',)"}

    def returns(self, data):
        """{output: a line} for the card of an export."""
        raise NotImplementedError

    def pictures(self, network, evaluation, split, data):
        """What the report shows: [(title, text, [(picture uint8 (H, W, 3), caption)])]."""
        return []
