"""The app: its name, the checks that it adds to `manage.py check`, what it tells `dumpdata`, and the relay beside `runserver`."""

from django.apps import AppConfig


class OutboxConfig(AppConfig):
    name = "outbox"
    verbose_name = "Outbox"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from outbox import checks, relay_child, routers

        checks.register_all()
        routers.install()
        relay_child.start_with_runserver()
