"""The app: its name, the checks that it adds to `manage.py check`, and what it tells `dumpdata`."""

from django.apps import AppConfig


class OutboxConfig(AppConfig):
    name = "outbox"
    verbose_name = "Outbox"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from outbox import checks, routers

        checks.register_all()
        routers.install()
