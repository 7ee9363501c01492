"""A model that is published tells of each change, in the transaction that makes it."""

from django.core.exceptions import FieldDoesNotExist
from django.db.models.signals import post_save, pre_delete
from django.test import TestCase

from outbox import publish_model
from outbox.testing import captured_events
from tests.models import Order, Parcel


class ChangesTest(TestCase):
    def setUp(self):
        for signal in (post_save, pre_delete):
            self.addCleanup(self.restore, signal, list(signal.receivers))

    @staticmethod
    def restore(signal, receivers):
        signal.receivers = receivers
        signal.sender_receivers_cache.clear()

    def told(self, events):
        return [(event.channel, event.event, event.data) for event in events]

    def test_a_model_that_is_decorated_tells_when_it_is_created_updated_and_deleted(self):
        with captured_events() as events:
            parcel = Parcel.objects.create(place="here")
            parcel.place = "there"
            parcel.save()
            pk = parcel.pk
            Parcel.objects.filter(pk=pk).delete()
        self.assertEqual(
            self.told(events),
            [(f"parcel:{pk}", f"parcel-{change}", {"id": pk}) for change in ("created", "updated", "deleted")],
        )

    def test_the_fields_named_go_to_the_channels_that_the_instance_says(self):
        self.assertIs(
            publish_model(
                Order,
                channel=lambda order: ["orders", f"order:{order.pk}"],
                data=["id", "status", "parent"],
                event="order",
            ),
            Order,
        )
        with captured_events() as events:
            order = Order.objects.create()
            order.status = "packed"
            order.save()
        expected = [
            (channel, "order", {"id": order.pk, "status": status, "parent": None})
            for status in ("placed", "packed")
            for channel in ("orders", f"order:{order.pk}")
        ]
        self.assertEqual(self.told(events), expected)

    def test_functions_say_what_and_whether_to_publish(self):
        publish_model(
            Order,
            channel=lambda order: None if order.status == "draft" else "orders",
            data=str,
            event=lambda order: f"order-{order.status}",
        )
        with captured_events() as events:
            Order.objects.create(status="draft")
            order = Order.objects.create()
        self.assertEqual(self.told(events), [("orders", "order-placed", f"order {order.pk}")])

    def test_each_of_several_on_one_model_tells_of_the_changes_that_it_is_for(self):
        publish_model(Order, channel="new", on=["created"])
        publish_model(Order, channel="gone", on="deleted")
        publish_model(Order, channel="none", on=[])
        with captured_events() as events:
            order = Order.objects.create()
            order.save()
            order.delete()
        self.assertEqual([(e.channel, e.event) for e in events], [("new", "order-created"), ("gone", "order-deleted")])

    def test_what_a_deletion_takes_along_is_told_of_too_while_what_it_refers_to_is_there(self):
        publish_model(Order, channel="orders", data=lambda order: order.parent and order.parent.status, on=["deleted"])
        parent = Order.objects.create(status="parent")
        Order.objects.create(parent=parent)
        with captured_events() as events:
            parent.delete()
        self.assertCountEqual([event.data for event in events], [None, "parent"])

    def test_fixtures_are_not_published(self):
        publish_model(Order, channel="orders")
        with captured_events() as events:
            Order(pk=1).save_base(raw=True)
        self.assertEqual(events, [])

    def test_a_slip_is_told_of_where_it_is_written(self):
        for error, words, options in [
            (FieldDoesNotExist, "no field named 'stat'", {"data": ["stat"]}),
            (ValueError, "['order'], which is no column of Order", {"data": ["order"]}),
            (ValueError, "['saved']", {"on": ["saved"]}),
            (ValueError, "['status']", {"data": "status"}),
        ]:
            with self.subTest(words=words), self.assertRaisesMessage(error, words):
                publish_model(Order, channel="orders", **options)
