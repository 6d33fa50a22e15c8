"""Who may ask: requests to this server's own names, from its own page, and with the token where there is one.

A page of somebody else's in the same browser must neither read answers nor start work. Its requests bear its Origin,
or a Sec-Fetch-Site that is not ours. A name that is made to point here (DNS rebinding) is not in the list of hosts; an
address in digits cannot be made to point anywhere else.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = ("127.0.0.1", "localhost", "[::1]")
POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob: data:", "connect-src 'self'",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
))  # fmt: skip
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


def is_local(host: str) -> bool:
    """Whether only this machine reaches a server that is bound to ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """An application behind the rules above; every answer of it gets the headers that confine the page.

    Args:
        app: What answers.
        host: What the server is bound to.
        port: Its port.
        token: What whoever asks has to know; None: nothing.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, token: str | None) -> None:
        self.app, self.token = app, token
        self.cookie = f"zfkernels-{port}"  # cookies do not know ports
        self.open = not is_local(host)
        self.port = port
        self.names = {*LOCAL, f"[{host}]" if ":" in host else host.lower()}
        if self.open:
            self.names.add(socket.gethostname().lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # start and end of the server; web sockets are not spoken
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def confined(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    answer.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await PlainTextResponse(refusal, 403)(scope, receive, confined)
        elif self._is_entrance(scope):
            await self._entrance()(scope, receive, confined)
        elif not self._may(headers):
            await PlainTextResponse("open the address with the token that the server printed", 401)(
                scope, receive, confined
            )
        else:
            await self.app(scope, receive, confined)

    def _refusal(self, scope: Scope, headers: Headers) -> str | None:
        """Why a request is none of this page's, None if it is."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return "this server does not go by that name"
        origins = headers.getlist("origin")
        if any(origin != f"http://{hosts[0]}" for origin in origins):
            return "this server answers its own page only"
        if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            return None
        # A link to the page from anywhere is welcome: it opens in a tab of its own and reads nothing.
        link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return None if link and scope["path"] == "/" else "this server answers its own page only"

    def _is_ours(self, host: str) -> bool:
        name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        if not colon:
            name, port = host, "80"
        if port != str(self.port):
            return False
        return name.lower() in self.names or (self.open and _is_digits(name))

    def _is_entrance(self, scope: Scope) -> bool:
        given = parse_qs(scope["query_string"].decode("ascii", "replace")).get("token", [])
        return self.token is not None and scope["path"] == "/" and any(self._is_token(value) for value in given)

    def _entrance(self) -> RedirectResponse:
        """Puts the token where the page's requests take it along, and out of the address."""
        assert self.token is not None
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self.cookie, self.token, httponly=True, samesite="lax")
        return answer

    def _may(self, headers: Headers) -> bool:
        if self.token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._is_token(given)
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return self.cookie in cookies and self._is_token(cookies[self.cookie].value)

    def _is_token(self, value: str) -> bool:
        return self.token is not None and secrets.compare_digest(value.encode(), self.token.encode())


def _is_digits(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
