"""An event carries the span that it is published within, by OpenTelemetry's own SDK."""

import os
import subprocess
import sys
from pathlib import Path

from django.db import connection
from django.test import TestCase, override_settings
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from outbox import bulk_publish, publish
from outbox.models import Event

TRACER = TracerProvider().get_tracer("test")


def traceparents():
    return list(Event.objects.order_by("pk").values_list("traceparent", flat=True))


def current():
    carrier = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier["traceparent"]


class TracingTest(TestCase):
    def test_an_event_has_the_span_that_it_is_published_within(self):
        with TRACER.start_as_current_span("outer"):
            with TRACER.start_as_current_span("inner"):
                inner = current()
                event = publish("orders", 1)
            outer = current()
            bulk_publish([("orders", 2), ("orders", 3)])
            Event.objects.create(channel="orders", data=4)
        self.assertEqual(event.traceparent, inner)
        self.assertEqual(traceparents(), [inner, outer, outer, outer])

    def test_without_a_span_it_has_none(self):
        publish("orders", 1)
        self.assertEqual(traceparents(), [None])

    def test_a_span_that_is_not_recorded_is_left_out(self):
        with TracerProvider(sampler=ALWAYS_OFF).get_tracer("test").start_as_current_span("unsampled"):
            publish("orders", 1)
        self.assertEqual(traceparents(), [None])

    @override_settings(OUTBOX={"TRACING": False})
    def test_it_is_left_out_where_the_project_says_so(self):
        with TRACER.start_as_current_span("request"):
            publish("orders", 1)
        self.assertEqual(traceparents(), [None])

    def test_one_that_is_given_is_kept(self):
        given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        with TRACER.start_as_current_span("request"):
            Event.objects.create(channel="orders", traceparent=given)
        self.assertEqual(traceparents(), [given])

    def test_without_a_trace_no_right_to_give_one_is_needed(self):
        with connection.cursor() as cursor:
            cursor.execute("CREATE ROLE outbox_test_untraced")
            cursor.execute("GRANT INSERT (channel, event, data), SELECT ON outbox TO outbox_test_untraced")
            cursor.execute("SET LOCAL ROLE outbox_test_untraced")
        bulk_publish([("orders", 1), ("orders", 2)])
        publish("orders", 3)
        self.assertEqual(traceparents(), [None] * 3)

    def test_redacting_an_event_leaves_its_trace(self):
        with TRACER.start_as_current_span("request"):
            event = publish("orders", 1)
        event.data = None
        event.save()
        event.refresh_from_db()
        self.assertEqual((event.data, event.traceparent is None), (None, False))

    def test_opentelemetry_is_not_imported_for_it(self):
        code = (
            "import sys, django; django.setup(); from outbox.tracing import current_traceparent; "
            "import outbox.models; assert current_traceparent() is None; "
            "assert not any(name.startswith('opentelemetry') for name in sys.modules)"
        )
        environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parents[1], env=environ, capture_output=True, text=True
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
