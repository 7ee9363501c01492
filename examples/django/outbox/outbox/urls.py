"""`path("outbox/", include("outbox.urls"))`: where an open page renews its token."""

from django.urls import path

from outbox import views

app_name = "outbox"
urlpatterns = [path("token/", views.token, name="token")]
