"""The model over the table that outbox-relay's migrations make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models

from outbox.rules import LONGEST_NAME, Encoder
from outbox.tracing import current_traceparent


class _GivenByDatabase(models.Field):
    """A column that the database alone fills: it is read back by each INSERT, and written by none.

    Django's GeneratedField is that from 5.0 on; here 4.2 has it too. To migrations it is the field that it is made of.
    """

    db_returning = True

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        name, _, args, kwargs = super().deconstruct()
        return name, f"django.db.models.{type(self).__mro__[2].__name__}", args, kwargs


class _Moment(_GivenByDatabase, models.DateTimeField):
    pass


class _Place(_GivenByDatabase, models.BigIntegerField):
    pass


class EventQuerySet(models.QuerySet):
    """What `save`, `create` and `bulk_create` write by, as the model's base manager. It leaves out what the database gives."""

    # Django's own, which its stubs do not tell of.
    def _insert(self, objs: Any, fields: Sequence[models.Field], **options: Any) -> Any:
        given = [field for field in fields if not isinstance(field, _GivenByDatabase)]
        traceparent = current_traceparent()
        for event in objs:
            event.traceparent = event.traceparent or traceparent
        # Whoever has no trace needs no right to give one.
        if not any(event.traceparent for event in objs):
            given = [field for field in given if field.name != "traceparent"]
        return super()._insert(objs, given, **options)  # type: ignore[misc]

    def _update(self, values: Sequence[tuple[models.Field, Any, Any]], *options: Any) -> Any:
        given = [v for v in values if not isinstance(v[0], _GivenByDatabase) and v[0].name != "traceparent"]
        return super()._update(given, *options)  # type: ignore[misc]

    # As Django marks them: managers have the one, templates call neither.
    _insert.queryset_only = False  # type: ignore[attr-defined]
    _insert.alters_data = _update.alters_data = True  # type: ignore[attr-defined]


class Event(models.Model):
    """An event: published when its transaction commits, delivered in the order of `position`.

    `created_at` and `position` are the database's alone. They stay out of every INSERT and UPDATE, so a role that may insert
    `channel`, `event` and `data` and nothing else can publish. `position` is None until the commit. `traceparent` is the span
    that it is published within, where OpenTelemetry has one; a role needs the right to insert it only then.

    A row that is there is never sent again. Only its `data` may change, to redact it::

        Event.objects.filter(pk=41).update(data={"text": "(removed)"})
    """

    id = models.BigAutoField(primary_key=True)
    channel = models.CharField(max_length=LONGEST_NAME)
    event = models.CharField(max_length=LONGEST_NAME, default="message")
    data = models.JSONField(null=True, blank=True, encoder=Encoder)
    created_at = _Moment(blank=True, editable=False)
    position = _Place(null=True, blank=True, editable=False)
    # NULL takes no room in a row.
    traceparent = models.TextField(null=True, blank=True, editable=False)  # noqa: DJ001

    objects = EventQuerySet.as_manager()

    class Meta:
        managed = False
        db_table = "outbox"
        base_manager_name = "objects"

    def __str__(self) -> str:
        return f"{self.pk} {self.event} on {self.channel}"
