"""Changes of models, published as they are made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Literal, TypeVar, overload

from django.db.models import Model
from django.db.models.signals import post_save, pre_delete

from outbox.publishing import bulk_publish

Change = Literal["created", "updated", "deleted"]
Channels = str | Iterable[str] | None
Of = Callable[[Any], Any]
M = TypeVar("M", bound=type[Model])

CHANGES: tuple[Change, ...] = ("created", "updated", "deleted")


@overload
def publish_model(
    model: None = None,
    *,
    channel: str | Iterable[str] | Callable[[Any], Channels],
    data: Iterable[str] | Of | None = None,
    event: str | Callable[[Any], str] | None = None,
    on: Change | Collection[Change] = CHANGES,
) -> Callable[[M], M]: ...
@overload
def publish_model(
    model: M,
    *,
    channel: str | Iterable[str] | Callable[[Any], Channels],
    data: Iterable[str] | Of | None = None,
    event: str | Callable[[Any], str] | None = None,
    on: Change | Collection[Change] = CHANGES,
) -> M: ...
def publish_model(model: Any = None, *, channel: Any, data: Any = None, event: Any = None, on: Any = CHANGES) -> Any:
    """Publish each change of a model's instances, in the transaction that makes it. A decorator of the model::

        @publish_model(channel=lambda order: f"user:{order.customer_id}", data=["id", "status"], event="order")
        class Order(models.Model): ...

    or a function for a model of another's, called in `AppConfig.ready`: `publish_model(User, channel="users")`. Several of them
    on one model are several events.

    `channel`, `data` and `event` are values, or functions of the instance.

    - `channel`: one name, or several, or None for nothing.
    - `data`: names of fields, whose values arrive as an object. Default: `{"id": …}`, the primary key.
    - `event`: default `order-created`, `order-updated` or `order-deleted`, by the model's name.
    - `on`: which changes are published, of "created", "updated" and "deleted".

    As with every signal, `bulk_create`, `update` and SQL send none: use `bulk_publish` beside them. A model that inherits from
    this one is another. Fixtures are not published. Without a transaction (`atomic`, or ATOMIC_REQUESTS) a save is committed
    before its event, and a crash in between loses the event.

    Returns the model. Raises FieldDoesNotExist or ValueError for names in `data` that are no columns, and in `on` no changes.
    """
    if model is None:
        return lambda model: publish_model(model, channel=channel, data=data, event=event, on=on)
    on = [on] if isinstance(on, str) else list(on)
    if unknown := set(on) - {*CHANGES}:
        raise ValueError(f"publish_model: `on` has {sorted(unknown)}, and changes are {', '.join(CHANGES)}")
    if isinstance(data, str):
        raise ValueError(f"publish_model: `data` is a list of fields' names, as in [{data!r}], or a function")
    value_of = data if callable(data) else _values_of(model, data)

    def tell(instance: Model, change: Change, using: str) -> None:
        if change not in on:
            return
        channels = channel(instance) if callable(channel) else channel
        if channels is None:
            return
        name = event(instance) if callable(event) else event or f"{model._meta.model_name}-{change}"
        value = value_of(instance)
        names = [channels] if isinstance(channels, str) else channels
        bulk_publish([(each, value, name) for each in names], using=using)

    def saved(instance: Model, created: bool, raw: bool, using: str, **_: Any) -> None:
        if not raw:
            tell(instance, "created" if created else "updated", using)

    def deleted(instance: Model, using: str, **_: Any) -> None:
        tell(instance, "deleted", using)

    if {"created", "updated"} & {*on}:
        post_save.connect(saved, sender=model, weak=False)
    # Only where it is wanted: with a receiver, a deletion of many rows reads them all. Before it, while all is there.
    if "deleted" in on:
        pre_delete.connect(deleted, sender=model, weak=False)
    return model


def _values_of(model: type[Model], names: Iterable[str] | None) -> Of:
    if names is None:
        return lambda instance: {"id": instance.pk}
    fields: list[Any] = [model._meta.get_field(name) for name in names]
    if many := [field.name for field in fields if not field.concrete or field.many_to_many]:
        raise ValueError(f"publish_model: `data` has {many}, which is no column of {model.__name__}: give a function")
    return lambda instance: {field.name: field.value_from_object(instance) for field in fields}
