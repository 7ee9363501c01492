"""Code that was written for django-eventstream or for the NOTIFY relay publishes by the calls that it has."""

import json

from django.db import transaction
from django.test import TestCase

from outbox import notify, send_event
from outbox.testing import captured_events
from tests.delivered import delivered


class EventstreamTest(TestCase):
    def test_send_event_sends_what_clients_of_django_eventstream_parse(self):
        for data, encode, expected in [
            ({"text": "hi"}, True, '{"text": "hi"}'),
            ("hi", True, '"hi"'),
            ("<p>hi</p>", False, "<p>hi</p>"),
        ]:
            with self.subTest(data=data):
                with captured_events() as (events):
                    send_event("room", "chat", data, json_encode=encode)
                self.assertEqual((events[0].channel, events[0].event), ("room", "chat"))
                self.assertEqual(delivered(events[0]), expected)

    def test_send_event_takes_its_arguments_in_django_eventstreams_order(self):
        with captured_events() as events:
            send_event("room", "chat", "<p>", None, False, False)
            send_event("room", "chat", "<p>", skip_user_ids=[], async_publish=True)
        self.assertEqual([delivered(event) for event in events], ["<p>", '"<p>"'])

    def test_users_who_are_to_be_skipped_are_refused_with_what_to_do(self):
        with self.assertRaisesMessage(ValueError, "Publish to the channels of those who are meant, such as user:7."):
            send_event("room", "chat", 1, ["7"])


class NotifyTest(TestCase):
    def test_of_an_envelope_data_arrives_under_the_event_s_name_and_the_rest_is_left_out(self):
        for envelope, name, text in [
            ({"event": "NEW", "id": 1, "data": json.dumps({"m": "hi"})}, "NEW", '{"m": "hi"}'),
            ({"data": "plain\ntext"}, "message", "plain\ntext"),
            ({"data": "", "event": None}, "message", ""),
            ({"data": {"m": 1}, "retry": 500, "comment": "ping", "sep": "\n"}, "message", '{"m": 1}'),
        ]:
            with self.subTest(envelope=envelope):
                with captured_events() as events:
                    published = notify(channel="Orders", sse_payload=envelope)
                self.assertEqual(events, [published])
                self.assertEqual((published.channel, published.event, delivered(published)), ("Orders", name, text))

    def test_an_envelope_without_data_which_browsers_do_not_see_is_not_published(self):
        with captured_events() as events:
            self.assertIsNone(notify("orders", {"comment": "ping"}))
            self.assertIsNone(notify("orders", {"event": "status", "data": None}))
        self.assertEqual(events, [])

    def test_it_is_part_of_the_transaction(self):
        with captured_events() as events:
            try:
                with transaction.atomic():
                    notify("orders", {"data": "1"})
                    raise InterruptedError
            except InterruptedError:
                pass
        self.assertEqual(events, [])

    def test_a_key_that_is_no_envelope_s_is_told_of(self):
        with self.assertRaisesMessage(ValueError, "an envelope has data, event, id, retry, comment, and no 'evnt'"):
            notify("orders", {"evnt": "x", "data": "1"})
