from django.conf import settings
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from store import views

log_in = LoginView.as_view(
    template_name="store/login.html",
    redirect_authenticated_user=True,
    extra_context={"password": settings.DEMO_PASSWORD},
)

urlpatterns = [
    path("", views.orders, name="orders"),
    path("htmx/", views.orders_htmx, name="orders-htmx"),
    path("htmx4/", views.orders_htmx4, name="orders-htmx4"),
    path("dashboard/", views.dashboard, name="dashboard"),
    path("place/", views.place_order, name="place-order"),
    path("orders/<int:pk>/move/", views.move_order, name="move-order"),
    path("notifications/read/", views.read_notifications, name="read-notifications"),
    path("announce/", views.announce, name="announce"),
    path("log-in/", log_in, name="login"),
    path("log-out/", LogoutView.as_view(), name="logout"),
]
