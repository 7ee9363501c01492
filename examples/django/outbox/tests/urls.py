from django.contrib import admin
from django.contrib.auth import authenticate, login, logout
from django.http import HttpResponse
from django.urls import include, path


def log_in(request):
    login(request, authenticate(request, username=request.GET["name"], password="secret"))
    return HttpResponse("in")


def log_out(request):
    logout(request)
    return HttpResponse("out")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("outbox/", include("outbox.urls")),
    path("in/", log_in),
    path("out/", log_out),
    path("page/", lambda request: HttpResponse("page")),
]
