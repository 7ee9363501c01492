"""The middleware that keeps a user's token fresh."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from outbox.conf import setting
from outbox.tokens import delete_token_cookie, needs_new_token, set_token_cookie


class TokenMiddleware:
    """Sets the token's cookie with the answer to a log-in, renews it once half of its time is over, deletes it at log-out.

    Goes after AuthenticationMiddleware. A page that stays open without asking for anything is to ask for `outbox:token` in
    time; `static/outbox/renew.js` does.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        name = setting("OUTBOX_COOKIE_NAME")
        # A view may have decided for itself.
        if name in response.cookies:
            return response
        if request.user.is_authenticated:
            if needs_new_token(request, request.user):
                set_token_cookie(response, request.user)
        elif name in request.COOKIES:
            delete_token_cookie(response)
        return response
