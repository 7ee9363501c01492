"""Development's front: under DEBUG, requests for streams go on to the relay, so that the browser sees one origin.

In production nginx or the like does this. A request goes out as it came, as HTTP/1.0, whose answers end with their connection;
what comes back goes to the browser piece by piece. A stream takes a thread under WSGI, and none of ours under ASGI.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from http.client import parse_headers
from io import BytesIO
from urllib.parse import quote

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from outbox import relay_child
from outbox.conf import setting
from outbox.relay_program import RelayMissing, page_module

MODULES = ("/outbox-relay.js", "/outbox-relay-htmx.js")
# Nothing but a pause, after which EventSource comes back. At an error it would give up for good.
AWAY = b'event: stream-pause\nretry: 1000\ndata: {"reason":"away","retryMs":1000}\n\n'
_STREAM = {"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform"}
# Of one connection, and not of what goes over it (RFC 9110, 7.6.1). And bodies: a request for a stream has none.
_OF_CONNECTION = {
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "date",
    "content-length", "content-type", "expect",
}  # fmt: skip
_CONNECT_SECONDS = 5
_PIECE_BYTES = 65536


def is_for_relay(request: HttpRequest) -> bool:
    """Whether it is under DEBUG, and for the relay or one of its modules."""
    if not settings.DEBUG:
        return False
    url = setting("URL")
    return request.path in MODULES or (
        url.startswith("/") and (request.path == url or request.path.startswith(f"{url}/"))
    )


def answer(request: HttpRequest) -> HttpResponseBase:
    """The relay's answer, for WSGI."""
    if request.path in MODULES:
        return _module(request)
    address = relay_child.address()
    if address is None:
        return _away()
    try:
        body = _Body(address, _head(request))
    except OSError:
        return _away()
    return _response(request, body.head, body)


async def aanswer(request: HttpRequest) -> HttpResponseBase:
    """The relay's answer, for ASGI."""
    if request.path in MODULES:
        return _module(request)
    address = relay_child.address()
    if address is None:
        return _away()
    try:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(_head(request))
        head = await reader.readuntil(b"\r\n\r\n")
    except (OSError, asyncio.IncompleteReadError):
        return _away()
    return _response(request, head, _AsyncBody(reader, writer))


class _Body:
    """What follows the head of an answer, as it comes. Its end is the connection's, whoever ends that."""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self._socket = socket.create_connection(address, timeout=_CONNECT_SECONDS)
        try:
            self._socket.settimeout(None)
            self._socket.sendall(request)
            received = b""
            while b"\r\n\r\n" not in received:
                piece = self._socket.recv(_PIECE_BYTES)
                if not piece:
                    raise ConnectionError("The relay has ended before it had answered.")
                received += piece
        except OSError:
            self._socket.close()
            raise
        self.head, _, self._rest = received.partition(b"\r\n\r\n")

    def __iter__(self) -> Iterator[bytes]:
        if self._rest:
            yield self._rest
        try:
            while piece := self._socket.recv(_PIECE_BYTES):
                yield piece
        except OSError:
            # The relay is gone; the client comes back with its cursor.
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Called by Django, too, when the client has left."""
        self._socket.close()


class _AsyncBody:
    """The same without a thread."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._loop = asyncio.get_running_loop()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while piece := await self._reader.read(_PIECE_BYTES):
                yield piece
        except OSError:
            pass
        finally:
            self._writer.close()

    def close(self) -> None:
        # Django calls it in a thread.
        self._loop.call_soon_threadsafe(self._writer.close)


def _head(request: HttpRequest) -> bytes:
    """The request for the relay. Its Host is the browser's, by which the relay knows pages of its own origin."""
    rest = quote(request.path[len(setting("URL")) :], safe="/:*@!$&'()+,;=~")
    query = request.META.get("QUERY_STRING", "")
    lines = [f"{request.method} /events{rest}{f'?{query}' if query else ''} HTTP/1.0"]
    lines += [f"{name}: {value}" for name, value in request.headers.items() if name.lower() not in _OF_CONNECTION]
    lines.append(f"X-Forwarded-For: {request.META.get('REMOTE_ADDR', '')}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def _response(request: HttpRequest, head: bytes, body: _Body | _AsyncBody) -> StreamingHttpResponse:
    status_line, _, fields = head.partition(b"\r\n")
    _, _, status = status_line.decode("latin-1").partition(" ")
    response = StreamingHttpResponse(body, status=int(status[:3]), reason=status[4:] or None)
    del response["Content-Type"]
    for name, value in parse_headers(BytesIO(fields)).items():
        if name.lower() not in _OF_CONNECTION or name.lower() in ("content-type", "content-length"):
            response[name] = value
    _keep_as_it_is(request)
    return response


def _keep_as_it_is(request: HttpRequest) -> None:
    """GZipMiddleware, which gathers what it compresses, looks at the request for whether it may."""
    request.META.pop("HTTP_ACCEPT_ENCODING", None)


def _away() -> HttpResponse:
    return HttpResponse(AWAY, headers=_STREAM)


def _module(request: HttpRequest) -> HttpResponse:
    """From where the relay has it, so that a page that is loaded while the relay starts has its script."""
    try:
        body = page_module(request.path[1:])
    except (OSError, RelayMissing) as error:
        return HttpResponse(f"{error}\n", status=503, content_type="text/plain; charset=utf-8")
    return HttpResponse(body, content_type="text/javascript; charset=utf-8", headers={"Cache-Control": "no-cache"})
