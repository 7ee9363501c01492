"""The one view that an open page needs."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache

from outbox.conf import setting
from outbox.tokens import delete_token_cookie, set_token_cookie


@never_cache
def token(request: HttpRequest) -> JsonResponse:
    """Renew the token of whoever is logged in, and say for how long it is good; 401 for nobody."""
    if not request.user.is_authenticated:
        response = JsonResponse({"error": "unauthorized", "message": "Log in."}, status=401)
        delete_token_cookie(response)
        return response
    response = JsonResponse({"expires_in": setting("TOKEN_SECONDS")})
    set_token_cookie(response, request.user)
    return response
