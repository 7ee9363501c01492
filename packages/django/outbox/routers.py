"""Routers: what Django asks where a model belongs."""

from __future__ import annotations

from typing import Any

from django.db import router
from django.db.models import Model


class NoFixtures:
    """Keeps events out of `dumpdata` and `loaddata`, which ask routers for each model.

    Events are a log and no state. Loaded, they would be published again, under other ids or not at all, as the database alone
    gives ids; and loading ends with setting the sequence back to the highest id that is left, so that ids would be given out
    twice. Django asks for the model itself only here; in migrations it asks for the model that they describe.
    """

    def allow_migrate(
        self, db: str, app_label: str, model_name: str | None = None, model: type[Model] | None = None, **hints: Any
    ) -> bool | None:
        from outbox.models import Event

        return False if model is Event else None


def install() -> None:
    """Puts it before the project's own, of which the first that has an answer is heard."""
    if not any(isinstance(each, NoFixtures) for each in router.routers):
        router.routers.insert(0, NoFixtures())
