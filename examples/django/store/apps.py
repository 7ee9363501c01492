from django.apps import AppConfig


class StoreConfig(AppConfig):
    name = "store"

    def ready(self) -> None:
        # Connects its receiver.
        from store import live  # noqa: F401
