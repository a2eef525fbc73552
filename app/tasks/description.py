"""Description: a sentence that says what an image shows."""

import numpy as np
import tensorflow as tf

from app.data import batches
from app.description import data as data_sets, scoring
from app.description.decoding import Decoder, sentences
from app.description.nic import (SentenceAccuracy, TokenAccuracy, masked_loss, nic, one_sentence,
                                 teacher_forced)
from app.models import Network
from app.tasks.task import Task
from app.training import validated_at_once

SHOWN = 12


class Description(Task):
    """Sentences: the network gives the logits of each next word."""

    name = "describe"
    data_sets = data_sets.DATA_SETS
    networks = {"nic": Network(nic, {"length": 12, "units": 128, "width": 0.5, "dropout": 0.1},
                               (32, 32, 1), 20)}
    chosen = staticmethod(one_sentence)

    def load(self, source, **settings):
        return data_sets.load(source, **settings)

    def sizes(self, data):
        return {"length": data.train.labels.shape[-1]}

    def head(self, network):
        return [*super().head(network), "word_embedding"]

    def loss(self, network, model):
        return masked_loss()

    def metrics(self, network):
        return [TokenAccuracy(), SentenceAccuracy()]

    def examples(self, network, model):
        return teacher_forced

    def evaluate(self, network, split, data):
        step = tf.function(Decoder(network).beam, reduce_retracing=True)
        said = [step(images)[0][:, 0] for images, _ in batches(split, validated_at_once(split))]
        return scoring.score(np.concatenate(said), split.labels, data.class_names)

    def answer(self, network, class_names):
        decoder = Decoder(network)

        def describe(images):
            tokens, score = decoder.beam(images)
            return {"tokens": tokens[:, 0], "sentence": sentences(tokens[:, 0], class_names),
                    "score": score[:, 0]}

        return describe

    def returns(self, data):
        return {"tokens": "int32, the words by their numbers in labels.txt, ('batch', most)",
                "sentence": "string, ('batch',)",
                "score": "float32, its log probability in nats, ('batch',)"}

    def pictures(self, network, evaluation, split, data):
        shown = range(min(SHOWN, len(split)))
        wrong = np.flatnonzero(~evaluation.exact)[:SHOWN]

        def captioned(indices):
            return [(split.images[i], evaluation.sentences[i]) for i in indices]

        return [("Test images", "What the network says of them.", captioned(shown)),
                ("Mistakes", "Test images whose sentence nobody wrote so.", captioned(wrong))]


TASK = Description()
