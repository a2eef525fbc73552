"""A socket that listens, or an error that says why it cannot."""

import contextlib
import socket

from app.errors import UsageError


def listen(host, port):
    """A socket that listens on an address; port 0 is any that is free.

    Raises:
        UsageError: where the address cannot be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as opened:
            listening = opened.enter_context(socket.socket(*found[:3]))
            # Else an answer's body waits for the client to have acknowledged its head.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(found[4])
            listening.listen(2048)
            opened.pop_all()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{host}:{port} cannot be listened on ({reason}). Give another --port, or "
                         "end what uses it.") from error
    return listening
