"""Recipe: Celery's tasks publish their progress, and the transactions of what they do."""

from unittest import skipUnless

from django.db import transaction
from django.test import TransactionTestCase

from outbox import publish
from outbox.testing import captured_events
from tests.models import Parcel

try:
    from celery import Celery
    from celery.contrib.testing.worker import start_worker
except ImportError:
    Celery = None
else:
    # A worker of its own, in a thread; what goes between is as with any broker.
    app = Celery("tests", broker="memory://", backend="cache+memory://")

    @app.task(name="pack")
    def pack(pk, *, fails=False):
        # Outside of a transaction each of these is seen as soon as it is published.
        publish(f"parcel:{pk}", {"percent": 50}, event="progress")
        # Inside, what is done and what is told of it are one.
        with transaction.atomic():
            Parcel.objects.filter(pk=pk).update(place="packed")
            publish(f"parcel:{pk}", {"place": "packed"}, event="packed")
            if fails:
                raise InterruptedError


@skipUnless(Celery, "Celery is not installed")
class CeleryTest(TransactionTestCase):
    def setUp(self):
        self.parcel = Parcel.objects.create(place="here")

    def run_by_worker(self, **options):
        with captured_events() as events, start_worker(app, perform_ping_check=False, loglevel="CRITICAL"):
            # As after any write: a worker that is quicker than the commit would not find the row.
            with transaction.atomic():
                transaction.on_commit(lambda: setattr(self, "result", pack.delay(self.parcel.pk, **options)))
            self.result.get(timeout=30, propagate=False)
        self.parcel.refresh_from_db()
        return [event.event for event in events]

    def test_a_task_publishes_its_progress_and_its_end(self):
        self.assertEqual(self.run_by_worker(), ["progress", "packed"])
        self.assertEqual(self.parcel.place, "packed")

    def test_of_a_task_that_fails_the_progress_was_seen_and_the_rest_never_was(self):
        self.assertEqual(self.run_by_worker(fails=True), ["progress"])
        self.assertEqual(self.parcel.place, "here")
