"""Who a process is in a search on more than one machine: chief, worker, or neither."""

import os

from app.errors import UsageError

ID, HOST, PORT = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"


def role_of(chief=None, worker=None, environment=os.environ):
    """(the chief's "HOST:PORT" or None, the worker's name or None).

    What is not given is taken from Keras Tuner's environment variables: KERASTUNER_TUNER_ID (the
    chief's contains "chief"), KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT.

    Raises:
        UsageError: for a worker without a chief, or a part of the variables.
    """
    if chief is None and HOST in environment:
        for missing in (name for name in (PORT, ID) if name not in environment):
            raise UsageError(f"{HOST} is set, so that {missing} should be set too, or neither.")
        chief = f"{environment[HOST]}:{environment[PORT]}"
        if worker is None and "chief" not in environment[ID]:
            worker = environment[ID]
    if chief is None and worker is not None:
        raise UsageError("--worker needs --chief HOST:PORT, where its chief listens. "
                         f"Received: --worker {worker}")
    if chief is not None:
        address_of(chief)
    return chief, worker


def address_of(text):
    """(host, port) of "HOST:PORT"."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--chief must be HOST:PORT, as in 10.0.0.5:8790. Received: {text}")
    return host, int(port)
