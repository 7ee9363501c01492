from django.contrib import admin
from django.contrib.auth import authenticate, login, logout
from django.http import HttpResponse, JsonResponse
from django.urls import path

from outbox import acurrent_cursor, apublish


def log_in(request):
    login(request, authenticate(request, username=request.GET["name"], password="secret"))
    return HttpResponse("in")


def log_out(request):
    logout(request)
    return HttpResponse("out")


async def publish_async(request):
    event = await apublish("news", request.GET["text"])
    return JsonResponse({"id": event.pk, "cursor": await acurrent_cursor()})


urlpatterns = [
    path("admin/", admin.site.urls),
    path("in/", log_in),
    path("out/", log_out),
    path("async/", publish_async),
    path("page/", lambda request: HttpResponse("page")),
]
