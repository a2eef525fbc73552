"""Mixed precision: what is 16 bits wide, what stays 32, and that a run goes on as it was."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from app.averaging import averaged_views, ensemble
from app.errors import UsageError
from app.export import export
from app.precision import PRECISIONS, precision
from app.runs import Config, Run
from app.tasks import find_task
from app.training import new_model, train
from app.transfer import head_of

CONFIG = Config("mlp", "digits", epochs=3, batch_size=32, precision="mixed_bfloat16", ema=0.9)
pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.mark.parametrize("policy", PRECISIONS)
@pytest.mark.parametrize("name", ["mlp", "lenet5-1998", "deepconvnet"])
def test_hidden_layers_are_narrow_weights_and_logits_are_not(name, policy, digits):
    model = new_model(replace(CONFIG, model=name, precision=policy), digits)
    head = model.layers.index(model.get_layer(head_of(model)[0]))
    kinds = {layer.compute_dtype for layer in model.layers[1:head]}
    assert kinds == {policy.removeprefix("mixed_")}
    assert {layer.compute_dtype for layer in model.layers[head:]} == {"float32"}
    assert {w.dtype for w in model.trainable_weights} == {"float32"}
    assert model(digits.test.images[:2] / np.float32(255)).dtype == "float32"
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("policy", PRECISIONS[1:])
def test_a_resumed_run_is_the_run(policy, digits):
    config = replace(CONFIG, precision=policy)
    whole = train(Run.start("whole", config), digits)
    run = Run.start("parts", replace(config, epochs=2))
    train(run, digits)
    train(Run.start("parts", config, resume=True), digits)
    for a, b in zip(whole.get_weights(), run.model().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_learns_and_exports(digits):
    model = train(Run.start("run", replace(CONFIG, epochs=12, learning_rate=5e-3)), digits)
    x = digits.train.images / np.float32(255)
    assert np.mean(np.argmax(model.predict(x, verbose=0), 1) == digits.train.labels) > 0.6
    path = export(model, name="narrow", class_names=list("0123456789"), card={},
                  sample_images=x[:4])
    assert (path / "saved_model.pb").exists()
    several = averaged_views(ensemble([model, model]), "shift")
    assert export(several, name="several", class_names=list("0123456789"), card={},
                  sample_images=x[:4]).exists()


def test_rates_by_layer_are_known_in_mixed_float16(digits):
    source = train(Run.start("source", CONFIG), digits)
    config = replace(CONFIG, precision="mixed_float16", ema=None, start_from="source",
                     head_learning_rate=0.01)
    train(Run.start("tuned", config), digits)
    assert Run.open("tuned").history()[0]["learning_rate"] == pytest.approx(1e-3)
    assert source.name == "mlp"


def test_a_gan_draws_and_judges_in_float32():
    data = find_task("generate").load("digits")
    model = new_model(Config("dcgan", "digits", "generate", precision="mixed_bfloat16",
                             sizes={"width": 0.1}), data)
    for part in (model.generator, model.discriminator):
        assert part(np.zeros((2, *part.input_shape[1:]))).dtype == "float32"
        assert {layer.compute_dtype for layer in part.layers} == {"float32", "bfloat16"}


def test_an_unknown_precision_is_named():
    with pytest.raises(UsageError, match="Unknown precision 'float8'"), precision("float8"):
        pass
