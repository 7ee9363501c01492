"""Changes of models, published as they are saved."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.db.models import Model
from django.db.models.signals import post_save

from outbox.publishing import publish

Channels = str | Iterable[str] | None


def publish_changes(
    model: type[Model],
    *,
    channel: str | Callable[[Any], Channels],
    data: Callable[[Any], Any] | Iterable[str],
    event: str | Callable[[Any], str] = "message",
) -> Callable[..., None]:
    """Publish each time that an instance of `model` is saved, in the transaction that saves it.

    Call it in `AppConfig.ready`. `channel`, `data` and `event` are values, or functions of the instance; a channel may be
    several, or None for none, and `data` may be names of fields::

        publish_changes(Order, channel=lambda order: f"user:{order.customer_id}", data=["id", "status"], event="order")

    As with every signal, `bulk_create`, `update` and SQL send none; use `bulk_publish` beside them. Fixtures are not
    published. Without a transaction (`atomic`, or ATOMIC_REQUESTS) the save is committed before its event, and a crash in
    between loses the event.

    Returns the receiver, for `post_save.disconnect(receiver, sender=model)`.
    """
    fields = None if callable(data) else [model._meta.get_field(name) for name in data]

    def receiver(sender: type[Model], instance: Model, raw: bool, using: str, **_: Any) -> None:
        if raw:
            return
        channels = channel(instance) if callable(channel) else channel
        if channels is None:
            return
        name = event(instance) if callable(event) else event
        value = data(instance) if fields is None else {f.name: f.value_from_object(instance) for f in fields}
        for each in [channels] if isinstance(channels, str) else channels:
            publish(each, value, event=name, using=using)

    post_save.connect(receiver, sender=model, weak=False)
    return receiver
