"""`manage.py outbox_tail` prints each event once, in the order of commits, from where it is told."""

import io
import json
from queue import Queue
from threading import Thread

from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import TransactionTestCase

from outbox import publish
from outbox.management.commands import outbox_tail
from outbox.models import Event
from tests.hanging import hanging_commit


class Lines(io.StringIO):
    """An output whose lines can be waited for."""

    def __init__(self):
        super().__init__()
        self.queue = Queue()

    def write(self, text):
        for line in text.splitlines():
            self.queue.put(line)
        return len(text)

    def take(self, count):
        return [json.loads(self.queue.get(timeout=20))["data"] for _ in range(count)]


class TailTest(TransactionTestCase):
    def setUp(self):
        Event.objects.all().delete()

    def tail(self, *args):
        out = io.StringIO()
        call_command("outbox_tail", "--no-follow", *args, stdout=out)
        return out.getvalue().splitlines()

    def data(self, *args):
        return [json.loads(line)["data"] for line in self.tail("--json", *args)]

    def test_it_starts_where_it_is_told(self):
        first = publish("a", 1)
        publish("b", 2)
        publish("user:1", 3)
        self.assertEqual(self.data(), [])
        self.assertEqual(self.data("--from", "earliest"), [1, 2, 3])
        self.assertEqual(self.data("--from", str(first.pk)), [2, 3])
        self.assertEqual(self.data("--since", "1h"), [1, 2, 3])
        self.assertEqual(self.data("--since", "2026-01-01T00:00Z"), [1, 2, 3])
        self.assertEqual(self.data("--since", "2200-01-01T00:00"), [])
        for wrong in (["--from", "x"], ["--from", "999999999"], ["--since", "yesterday"]):
            with self.subTest(wrong=wrong), self.assertRaises(CommandError):
                self.tail(*wrong)

    def test_it_prints_nothing_before_what_a_commit_under_way_may_yet_publish(self):
        first = publish("a", 1)
        with hanging_commit(lambda: publish("a", 2)):
            publish("a", 3)
            self.assertEqual(self.data("--from", "earliest"), [1])
        self.assertEqual(self.data("--from", str(first.pk)), [2, 3])

    def test_it_keeps_to_channels_and_prefixes(self):
        for channel in ("a", "b", "user:1", "user:2", "user_3"):
            publish(channel, channel)
        wanted = ("--from", "earliest", "--channel", "a", "--channel", "user:*")
        self.assertEqual(self.data(*wanted), ["a", "user:1", "user:2"])

    def test_it_prints_in_the_order_of_commits_and_over_many_pages(self):
        pages = outbox_tail.PAGE
        self.addCleanup(setattr, outbox_tail, "PAGE", pages)
        outbox_tail.PAGE = 3
        with transaction.atomic():
            publish("a", "last")
            thread = Thread(target=lambda: ([publish("a", n) for n in range(8)], connection.close()))
            thread.start()
            thread.join()
        self.assertEqual(self.data("--from", "earliest"), [*range(8), "last"])

    def test_a_line_is_one_event_to_read(self):
        event = publish("orders", "two\nlines", event="row")
        event.refresh_from_db()
        (line,) = self.tail("--from", "earliest")
        self.assertRegex(line, rf"^{event.position}  \d+-\d+-\d+ [\d:]+  {event.pk}  orders  row  two\\nlines$")

    def test_nothing_in_an_event_reaches_the_terminal_but_text(self):
        hostile = "\x1b]0;owned\x07\x1b[2J \x9b31m \u202eevil \u2028 \r\n \\n fine \u200d"
        publish("a\u202e", {hostile: hostile}, event="b\u2066")
        publish("a", hostile)
        publish("a", "\U000e0001")
        for args in ((), ("--json",)):
            lines = self.tail("--from", "earliest", *args)
            self.assertEqual(len(lines), 3)
            self.assertNotRegex("".join(lines), "[\x00-\x1f\x7f-\x9f\u2028\u202e\u2066\U000e0001]")
        self.assertEqual(self.data("--from", "earliest"), [{hostile: hostile}, hostile, "\U000e0001"])

    def test_it_follows_what_commits_and_outlives_the_loss_of_its_connection(self):
        # By the notification, then: the sweep would not come in time.
        self.addCleanup(setattr, outbox_tail, "SWEEP_SECONDS", outbox_tail.SWEEP_SECONDS)
        self.addCleanup(setattr, outbox_tail, "PAUSE_SECONDS", outbox_tail.PAUSE_SECONDS)
        outbox_tail.SWEEP_SECONDS, outbox_tail.PAUSE_SECONDS = 3600.0, 0.1
        out, err, ended = Lines(), io.StringIO(), Queue()
        publish("a", "there already")

        def follow():
            try:
                call_command("outbox_tail", "--json", "--from", "earliest", stdout=out, stderr=err)
            finally:
                connection.close()
                ended.put(True)

        thread = Thread(target=follow, daemon=True)
        thread.start()
        self.assertEqual(out.take(1), ["there already"])
        for n in range(3):
            publish("a", n)
            self.assertEqual(out.take(1), [n])
        self.assertEqual(self.kill_listener(), 1)
        publish("a", "while it was away")
        self.assertEqual(out.take(1), ["while it was away"])
        publish("a", "after")
        self.assertEqual(out.take(1), ["after"])
        self.assertIn("away", err.getvalue())
        # It is ended as Ctrl-C does, by an exception where it prints.
        out.write = self.interrupted
        publish("a", "end")
        self.assertTrue(ended.get(timeout=20))

    @staticmethod
    def interrupted(_):
        raise KeyboardInterrupt

    def kill_listener(self):
        with connection.cursor() as cursor:
            cursor.execute("""
                SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
            """)
            return cursor.fetchone()[0]
