"""The middleware that keeps a user's token fresh, and in development leads to the relay."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponseBase

from outbox import pass_through, views
from outbox.conf import setting
from outbox.tokens import delete_token_cookie, needs_new_token, set_token_cookie


class OutboxMiddleware:
    """Sets the token's cookie with the answer to a log-in, renews it once half of its time is over, deletes it at log-out.

    Goes after AuthenticationMiddleware. It answers OUTBOX["TOKEN_URL"] itself: a page that stays open without asking for anything
    else renews its token there, as `{% outbox_script %}` does. Under DEBUG it passes OUTBOX["URL"] on to the relay.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._acall(request)
        if pass_through.is_for_relay(request):
            return pass_through.answer(request)
        if request.path == setting("TOKEN_URL"):
            return views.token(request)
        response: HttpResponseBase = self.get_response(request)
        _refresh_token(request, response)
        return response

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        if pass_through.is_for_relay(request):
            return await pass_through.aanswer(request)
        if request.path == setting("TOKEN_URL"):
            return await sync_to_async(views.token)(request)
        response: HttpResponseBase = await self.get_response(request)
        # The user may yet have to be read from the database.
        await sync_to_async(_refresh_token)(request, response)
        return response


def _refresh_token(request: HttpRequest, response: HttpResponseBase) -> None:
    name = setting("COOKIE_NAME")
    # A view may have decided for itself.
    if name in response.cookies:
        return
    if request.user.is_authenticated:
        if needs_new_token(request, request.user):
            set_token_cookie(response, request.user)
    elif name in request.COOKIES:
        delete_token_cookie(response)
