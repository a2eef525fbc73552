"""pytest plugin: the fixture `gradient_check`.

Every pytest run on the machine loads it, so nothing heavy is imported before a test asks for it.
"""

import pytest


@pytest.fixture
def gradient_check():
    """`check_gradients` that fails the test, with the printed report, where a gradient is wrong.

    >>> def test_my_layer(gradient_check):
    ...     report = gradient_check(MyLayer(8), numpy.random.normal(size=(4, 5)))
    ...     assert report.kinks == 0

    It takes the arguments of `custom_layers.check_gradients` and returns its report.
    """
    from custom_layers.gradient_check import check_gradients

    def check(target, inputs, **options):
        __tracebackhide__ = True
        report = check_gradients(target, inputs, **options)
        if not report.ok:
            pytest.fail(str(report), pytrace=False)
        return report

    return check
