"""Who may ask the page's server: whoever logged in, where that is asked for, and no other site."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = re.compile(
    r"/((login|gradio_api/(login_check|startup-events|theme\.css)|theme\.css|favicon\.ico"
    r"|manifest\.json|pwa_icon|robots\.txt)/?|(assets|static|svelte)/.*)?"
)
"""Paths of the login page and what it needs; nothing of a visitor is behind them."""


class Guard:
    """Stands before all of Gradio's routes, some of which ask for no login of their own.

    A browser says from which site a request comes; requests of other sites are refused, so that
    they cannot have a visitor's browser give pictures and begin searches. Programs say nothing.
    """

    def __init__(self, app: ASGIApp, login: bool, root: str | None) -> None:
        """
        Args:
            login: whether visitors have to log in.
            root: where a proxy shows the page: a path, or an address that is a site of its own.
        """
        self._app, self._login = app, login
        self._path, self._site = urlsplit(root or "").path.rstrip("/"), urlsplit(root or "").netloc

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._app
        if scope["type"] == "http":
            request = Request(scope)
            if self._is_foreign(request):
                answer = PlainTextResponse("Another site may not use this page.", 403)
            elif self._login and not self._may_pass(request):
                answer = PlainTextResponse("Log in first.", 401)
        await answer(scope, receive, send)

    def _is_foreign(self, request: Request) -> bool:
        origin = request.headers.get("origin")
        if origin is None:
            return False
        named = request.headers.get("x-forwarded-host", "").split(",")[0].strip()
        sites = {request.headers.get("host", ""), named, self._site} - {""}
        return urlsplit(origin).netloc.lower() not in {site.lower() for site in sites}

    def _may_pass(self, request: Request) -> bool:
        if OPEN.fullmatch(request.url.path.removeprefix(self._path) or "/"):
            return True
        gradio = request.scope["app"]
        names = ("access-token", "access-token-unsecure")
        tokens = (request.cookies.get(f"{name}-{gradio.cookie_id}") for name in names)
        return any(token in gradio.tokens for token in tokens)
