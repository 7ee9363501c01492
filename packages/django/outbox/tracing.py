"""The span that an event is published within, for OpenTelemetry: the relay's spans of it become its children."""

from __future__ import annotations

import sys

from outbox.conf import setting


def current_traceparent() -> str | None:
    """The current span, as W3C's Trace Context writes it.

    None where it is not recorded, where OUTBOX["TRACING"] is False, and where nobody has imported OpenTelemetry: it is not
    imported here, so that without it nothing is to be paid.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or not setting("TRACING"):
        return None
    span = trace.get_current_span()
    if not span.is_recording():
        return None
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
