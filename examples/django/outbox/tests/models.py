from django.db import models


class Order(models.Model):
    """Something whose changes are published. The foreign key is deferred, as Django makes them."""

    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE)
    status = models.CharField(max_length=20, default="placed")

    def __str__(self):
        return f"order {self.pk}"
