"""Access control of the web interface: token, Host, Origin, body size, headers.

An ASGI middleware around the whole app. Requests that fail a check never reach a route.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, RedirectResponse, Response

from nbtasks.web.event_log import EventLog

__all__ = ["Guard"]

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
EVENTS_PATH = "/events"
MAX_BODY = 64 * 1024
"""Bytes of a request's body."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Guard:
    """Passes requests to `app` that come from an allowed origin and have the token.

    `token` None: none is required, since an application around this one checks access. `hosts`: names of the server
    besides the loopback ones, such as a proxy's; "*" allows any. A GET of the page with `?token=...`
    sets a cookie (HttpOnly, SameSite=Strict) and redirects to the address without the token. The event streams are
    answered here, below Starlette, which keeps them small; at most `max_listeners` at once.
    """

    def __init__(
        self,
        app: Any,
        events: EventLog,
        *,
        token: str | None,
        hosts: Collection[str],
        policy: str,
        max_listeners: int,
    ) -> None:
        self.app = app
        self.events = events
        """The event streams of the app."""
        self.token = token
        self._max_listeners = max_listeners
        self._hosts = LOOPBACK_HOSTS | {host.lower() for host in hosts}
        self._headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"referrer-policy", b"no-referrer"),
            (b"cache-control", b"no-store"),
            (b"cross-origin-resource-policy", b"same-origin"),
        ]
        self._cookie = "nbtasks-" + hashlib.sha256((token or "").encode()).hexdigest()[:8]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request; what is no HTTP request (lifespan) is passed on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, self._with_headers(send))
        elif _path_in_app(scope) == EVENTS_PATH and scope["method"] == "GET":
            last_id = Headers(scope=scope).get("last-event-id")
            await self.events.listen(last_id, self._headers, receive, send)
        else:
            await self.app(scope, _limited(receive), self._with_headers(send))

    def _with_headers(self, send: Send) -> Send:
        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        return send_with_headers

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_allowed_host(host):
            return _error(421, f"this server is not {host!r}; allowed hosts are set where it is started")
        if scope["method"] not in SAFE_METHODS and not self._is_same_origin(headers, host):
            return _error(403, "a request that changes something must come from the page of this server")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY:
            return _error(413, f"a request has at most {MAX_BODY} bytes")
        refusal = None if self.token is None else self._refusal_without_token(scope, headers)
        if refusal is None and _path_in_app(scope) == EVENTS_PATH and self.events.listeners >= self._max_listeners:
            return _error(503, f"{self._max_listeners} clients listen already; try again later")
        return refusal

    def _refusal_without_token(self, scope: Scope, headers: Headers) -> Response | None:
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token")
        if given and scope["method"] == "GET" and self._matches(given[0]):
            return self._welcome(scope)
        if self._has_token(headers):
            return None
        return _error(401, "a token is needed: open the link that was printed, or send 'Authorization: Bearer TOKEN'")

    def _is_allowed_host(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return "*" in self._hosts or name.lower() in self._hosts

    def _is_same_origin(self, headers: Headers, host: str) -> bool:
        """Whether a browser says that the request comes from this server's page, or no browser sent it."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if site is not None and site not in {"same-origin", "none"}:
            return False
        if origin is None:
            return True
        try:
            parts = urlsplit(origin)
            name = parts.hostname
        except ValueError:
            return False
        return parts.netloc == host or (name is not None and name.lower() in self._hosts - LOOPBACK_HOSTS)

    def _has_token(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._matches(given.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and self._matches(cookie.value)

    def _matches(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), (self.token or "").encode())

    def _welcome(self, scope: Scope) -> Response:
        response = RedirectResponse("./", status_code=303)
        secure = scope.get("scheme") == "https"
        response.set_cookie(self._cookie, self.token or "", httponly=True, samesite="strict", secure=secure, path=None)
        return response


def _limited(receive: Receive) -> Receive:
    """A `receive` that ends a body which is longer than allowed, whatever its headers say."""
    total = 0

    async def limited() -> MutableMapping[str, Any]:
        nonlocal total
        message = await receive()
        if message["type"] == "http.request":
            total += len(message.get("body", b""))
            if total > MAX_BODY:
                return {"type": "http.disconnect"}
        return message

    return limited


def _path_in_app(scope: Scope) -> str:
    """The path of a request below the prefix under which the app is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status_code=status)
