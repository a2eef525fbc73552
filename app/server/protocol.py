"""A connection: what uvicorn's protocol leaves to clients that are slow, greedy or wrong."""

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.server.json_tensors import dump

PIPELINED = 16  # requests that may wait behind the one that is answered


def response(status, message, *headers):
    """The bytes of an answer {"error": message}, with more lines for its head."""
    body = dump({"error": message})
    head = [b"content-type: application/json", b"content-length: %d" % len(body), *headers]
    return STATUS_LINE[status] + b"\r\n".join([*head, b"", body])


class Protocol(HttpToolsProtocol):
    """Says in JSON what is wrong with bytes that are no HTTP; waits only so long for a head.

    Of itself it times connections that idle between two requests, and no others.

    Args:
        head_seconds: that a head may take.
        refusal: given the scope of a request, the bytes that answer it at once, or None.
    """

    def __init__(self, *arguments, head_seconds, refusal=None, **more):
        super().__init__(*arguments, **more)
        self.head_seconds, self.refusal = head_seconds, refusal
        self.in_head, self.late = False, None

    def connection_made(self, transport):
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data):
        idle = self.timeout_keep_alive_task
        super().data_received(data)  # which ends `idle`
        if self.in_head:
            if self.late is None:  # a whole head in one piece needs no timer
                self.late = self.loop.call_later(self.head_seconds, self.on_late_head)
        elif idle and not self.timeout_keep_alive_task and self._has_answered():
            # No request has begun: an empty line, or the body of one that was answered without.
            self.timeout_keep_alive_task = self.loop.call_at(
                idle.when(), self.timeout_keep_alive_handler)

    def on_message_begin(self):
        super().on_message_begin()
        self.in_head = True

    def on_headers_complete(self):
        if len(self.pipeline) >= PIPELINED:
            raise httptools.HttpParserError("Too many requests on their way")
        self._end_head()
        super().on_headers_complete()

    def connection_lost(self, error):
        self._end_head()
        super().connection_lost(error)

    def on_late_head(self):
        self._end_with(408, f"The request's head did not come within {self.head_seconds:g} "
                            "seconds")

    def send_400_response(self, msg):
        self._end_with(400, msg)

    def _start_asgi_task(self, cycle, app):
        # What a client does not read waits in the server: then its requests go the usual way.
        at_once = self.refusal and cycle.keep_alive and not self.flow.write_paused
        answer = at_once and self.refusal(cycle.scope)
        if not answer:
            super()._start_asgi_task(cycle, app)
            return
        self.transport.write(answer)
        cycle.response_started = cycle.response_complete = True  # its body is thrown away
        self.on_response_complete()

    def _has_answered(self):
        return self.cycle is None or self.cycle.response_complete

    def _waits_for_body(self):
        """Whether the only request lacks a part of its body, which will not come any more."""
        cycle = self.cycle
        return cycle.more_body and not cycle.response_started and not self.pipeline

    def _end_with(self, status, message):
        """Answers bytes that are no request; those before them are answered in their turn."""
        self._end_head()
        if self._has_answered() or self._waits_for_body():
            self.transport.write(response(status, message, b"connection: close"))
            self.transport.close()
        else:
            self.shutdown()  # behind the last answer

    def _end_head(self):
        self.in_head = False
        if self.late is not None:
            self.late.cancel()
            self.late = None
