"""What a request is answered with when it fails: TensorFlow's error codes as HTTP statuses."""

import tensorflow as tf

# tensorflow_serving/model_servers/http_server.cc
STATUS = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409, "ABORTED": 409, "RESOURCE_EXHAUSTED": 429, "CANCELLED": 499,
    "UNKNOWN": 500, "INTERNAL": 500, "DATA_LOSS": 500, "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
}
# Of HTTP alone.
STATUS |= {"REQUEST_TIMEOUT": 408, "PAYLOAD_TOO_LARGE": 413}
_NAMES = {value: name for name, value in vars(tf.errors).items() if isinstance(value, int)}


class RestError(Exception):
    """A request that is answered with `message`, and the status of `code`."""

    def __init__(self, message, code="INVALID_ARGUMENT"):
        super().__init__(message)
        self.code, self.status = code, STATUS[code]


def of_tensorflow(error):
    """The `RestError` of an error that TensorFlow has raised.

    The last line of its message that names no node of the graph says what went wrong.
    """
    lines = [line.strip() for line in error.message.splitlines()]
    lines = [line.split(" [Op:")[0] for line in lines if line and not line.startswith("[[")]
    return RestError(lines[-1] if lines else type(error).__name__,
                     _NAMES.get(error.error_code, "UNKNOWN"))
