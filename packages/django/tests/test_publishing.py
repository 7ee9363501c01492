"""Publishing is an INSERT in the caller's transaction, and what cannot be sent is refused before it is tried."""

import datetime
import decimal
import uuid

from django.db import connection, transaction
from django.db.utils import IntegrityError, ProgrammingError
from django.template import engines
from django.test import TestCase, TransactionTestCase

from outbox import bulk_publish, publish
from outbox.models import Event
from outbox.testing import captured_events
from tests.delivered import delivered
from tests.models import Order


class Refused(Exception):
    """Rolls a transaction back."""


class PublishTest(TransactionTestCase):
    def test_an_event_has_its_position_and_time_as_soon_as_its_transaction_has_committed(self):
        with transaction.atomic():
            event = publish("orders", {"order": 7}, event="status")
            self.assertIsNone(event.position)
            self.assertIsNotNone(event.created_at)
        event.refresh_from_db()
        self.assertGreater(event.position, 0)
        self.assertEqual((event.channel, event.event, event.data), ("orders", "status", {"order": 7}))

    def test_nothing_is_published_by_a_transaction_that_is_rolled_back(self):
        with captured_events() as events, self.assertRaises(Refused), transaction.atomic():
            publish("orders", 1)
            bulk_publish([("orders", 2), ("orders", 3)])
            raise Refused
        self.assertEqual(events, [])

    def test_a_savepoint_that_is_rolled_back_takes_its_own_events_along_and_no_others(self):
        with captured_events() as events, transaction.atomic():
            publish("orders", "before")
            try:
                with transaction.atomic():
                    publish("orders", "inside")
                    raise Refused
            except Refused:
                pass
            publish("orders", "after")
        self.assertEqual([event.data for event in events], ["before", "after"])

    def test_bulk_publish_keeps_the_order_given(self):
        with captured_events() as events:
            published = bulk_publish([("orders", n, "n") for n in range(50)], batch_size=7)
        self.assertEqual([event.pk for event in published], [event.pk for event in events])
        self.assertEqual([event.data for event in sorted(events, key=lambda e: e.position)], list(range(50)))
        self.assertEqual({event.event for event in events}, {"n"})

    def test_bulk_publish_sends_none_where_one_is_refused(self):
        with captured_events() as events, self.assertRaises(ValueError):
            bulk_publish([("orders", 1), ("or*ders", 2)])
        self.assertEqual(events, [])

    def test_bulk_create_and_update_work_on_the_model_as_on_any_other(self):
        first, _ = Event.objects.bulk_create([Event(channel="stock", data=n) for n in range(2)])
        Event.objects.filter(pk=first.pk).update(data="redacted")
        first.refresh_from_db()
        self.assertEqual(first.data, "redacted")
        with self.assertRaises(IntegrityError):
            Event.objects.filter(pk=first.pk).update(channel="other")

    def test_a_row_that_a_deferred_foreign_key_refuses_takes_its_event_along(self):
        with captured_events() as events, self.assertRaises(IntegrityError), transaction.atomic():
            publish("orders", 1)
            Order.objects.create(parent_id=4711)
        self.assertEqual(events, [])

    def test_a_role_that_may_insert_three_columns_and_no_more_can_publish(self):
        with connection.cursor() as cursor:
            cursor.execute("CREATE ROLE outbox_app_test")
            cursor.execute("GRANT INSERT (channel, event, data), SELECT ON outbox TO outbox_app_test")
        try:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL ROLE outbox_app_test")
                one = publish("orders", 1)
                many = bulk_publish([("orders", 2), ("orders", 3)])
                with connection.cursor() as cursor:
                    cursor.execute("SELECT outbox_publish('orders', '4')")
            self.assertEqual(Event.objects.filter(pk__gte=one.pk, position__gt=0).count(), 2 + len(many))
            with self.assertRaises(ProgrammingError), transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL ROLE outbox_app_test")
                cursor.execute("DELETE FROM outbox")
        finally:
            with connection.cursor() as cursor:
                cursor.execute("DROP OWNED BY outbox_app_test; DROP ROLE outbox_app_test")


class DataTest(TestCase):
    def test_a_test_case_sees_what_it_published(self):
        with captured_events() as events:
            publish("orders", {"order": 7})
        self.assertEqual([event.data for event in events], [{"order": 7}])

    def test_strings_arrive_as_their_text_and_all_else_as_json(self):
        html = engines["django"].from_string("<p>{{ name }}</p>").render({"name": "<Ann>"})
        for data, expected in [
            ("plain", "plain"),
            ("", ""),
            (html, "<p>&lt;Ann&gt;</p>"),
            ("two\nlines", "two\nlines"),
            (7, "7"),
            (1.5, "1.5"),
            (True, "true"),
            (None, "null"),
            ([1, "a"], '[1, "a"]'),
            ({"a": None}, '{"a": null}'),
            (decimal.Decimal("1.10"), "1.10"),
            (datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.timezone.utc), "2026-01-31T12:00:00Z"),
            (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
            ("\\u0000 is six characters", "\\u0000 is six characters"),
        ]:
            with self.subTest(data=data):
                self.assertEqual(delivered(publish("orders", data)), expected)

    def test_what_the_table_refuses_is_refused_before_with_the_name_of_the_rule(self):
        for channel, event, rule in [
            ("", "message", "outbox_channel_length_1_to_255"),
            ("c" * 256, "message", "outbox_channel_length_1_to_255"),
            ("user:*", "message", "outbox_channel_no_asterisk"),
            ("a\nb", "message", "outbox_channel_no_control_characters"),
            ("a\x85", "message", "outbox_channel_no_control_characters"),
            ("a", "", "outbox_event_length_1_to_255"),
            ("a", "e" * 256, "outbox_event_length_1_to_255"),
            ("a", "x\r", "outbox_event_no_control_characters"),
            ("a", "stream-reset", "outbox_event_prefix_stream_is_reserved"),
            ("a", "error", "outbox_event_error_and_open_are_reserved"),
            ("a", "open", "outbox_event_error_and_open_are_reserved"),
        ]:
            with self.subTest(channel=channel, event=event):
                with self.assertRaisesMessage(ValueError, rule):
                    publish(channel, 1, event)
                # The same rule by the same name, of the database.
                with self.assertRaisesMessage(Exception, rule), transaction.atomic(), connection.cursor() as cursor:
                    cursor.execute("INSERT INTO outbox (channel, event) VALUES (%s, %s)", [channel, event])
        # The transaction is as good as it was.
        publish("c" * 255, 1, "e" * 255)

    def test_data_that_jsonb_does_not_take_is_refused_before(self):
        for data, words in [
            (float("nan"), "JSON compliant"),
            ({"a": [float("inf")]}, "JSON compliant"),
            ("a\0b", "NUL"),
            ({"a\0": 1}, "NUL"),
        ]:
            with self.subTest(data=data), self.assertRaisesMessage(ValueError, words):
                publish("orders", data)
        publish("orders", 1)

    def test_a_name_that_is_no_string_is_refused(self):
        for wrong in (None, 7, b"orders"):
            with self.subTest(wrong=wrong), self.assertRaisesMessage(ValueError, "not a string"):
                publish(wrong, 1)
