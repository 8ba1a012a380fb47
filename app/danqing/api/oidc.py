"""Logging in through an OpenID Connect provider: the code flow with PKCE (S256), state and nonce.

OpenID Connect Core 1.0 and Discovery 1.0, RFC 7636, RFC 9700. httpx fetches, joserfc checks signatures and claims. Only
signatures by the provider's public keys count: neither `none` nor a shared secret.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import structlog

from danqing.api.users import ARTIST, User, Users, plain
from danqing.errors import DanqingError
from danqing.settings import Settings

if TYPE_CHECKING:
    import httpx

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
BACK = "/login/oidc/back"
FLOW_SECONDS, FLOWS = 600.0, 1000
"""How long somebody may take at the provider, and how many may be there at once."""

LOOKED_UP_SECONDS = 3600.0
LEEWAY = 60
"""Seconds that the clocks may differ."""

BODY_LIMIT = 2**20
TIMEOUT = 10.0
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Flow:
    """Somebody on the way to the provider and back."""

    state: str
    nonce: str
    verifier: str
    target: str
    until: float


@dataclass(frozen=True, slots=True)
class Provider:
    """What the provider says of itself, and its public keys as JSON."""

    authorization: str
    token: str
    keys: Any
    until: float


class Oidc:
    """One provider.

    Args:
        issuer: its address, as its tokens say it.
        secret: the client's, "" for a public client.
        new_users: whether somebody who is not known yet becomes an artist.
        origin: this server's own address; "" takes the request's.
    """

    def __init__(self, issuer: str, client: str, secret: str, users: Users, *, new_users: bool, origin: str) -> None:
        self.issuer, self._client, self._secret = issuer, client, secret
        self._users, self._new_users, self._own = users, new_users, origin.rstrip("/")
        self._flows: OrderedDict[str, Flow] = OrderedDict()
        self._provider: Provider | None = None

    @classmethod
    def of(cls, settings: Settings, users: Users) -> Oidc | None:
        """The provider of the settings, None where none is named.

        Raises:
            DanqingError: `bad_setting`.
        """
        issuer = settings.get_str("oidc_issuer")
        if not issuer:
            return None
        if not _is_safe(issuer):
            raise DanqingError("bad_setting", name="oidc_issuer", reason="not https")
        client, file = settings.get_str("oidc_client"), settings.get_str("oidc_secret_file")
        if not client:
            raise DanqingError("bad_setting", name="oidc_client", reason="empty")
        try:
            secret = Path(file).read_text("utf-8").strip() if file else ""
        except OSError as error:
            raise DanqingError("bad_setting", name="oidc_secret_file", reason=str(error.strerror)) from None
        new, origin = settings.get_bool("oidc_new_users"), settings.get_str("oidc_origin")
        return cls(issuer, client, secret, users, new_users=new, origin=origin)

    async def begin(self, origin: str, target: str) -> tuple[str, str]:
        """Where to send the browser, and the cookie that it has to bring back. `target`: the path it wanted.

        Raises:
            DanqingError: `oidc_failed`.
        """
        provider = await self._known()
        state, nonce, verifier, cookie = (secrets.token_urlsafe(32) for _ in range(4))
        flow = Flow(state, nonce, verifier, target, time.monotonic() + FLOW_SECONDS)
        self._flows[_hashed(cookie)] = flow
        while len(self._flows) > FLOWS:
            self._flows.popitem(last=False)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(flow.verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "scope": "openid profile email",
            "client_id": self._client,
            "redirect_uri": self._redirect(origin),
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        mark = "&" if urlsplit(provider.authorization).query else "?"
        return provider.authorization + mark + urlencode(query), cookie

    async def finish(self, cookie: str, query: Mapping[str, str], origin: str) -> tuple[str, str]:
        """The user's name and the path that they wanted. Each cookie counts once.

        Raises:
            DanqingError: `oidc_failed`.
        """
        flow = self._flows.pop(_hashed(cookie), None) if cookie else None
        if flow is None or flow.until < time.monotonic():
            raise self._failed("the login was not begun here, or too long ago")
        if not secrets.compare_digest(flow.state.encode(), query.get("state", "").encode("utf-8", "replace")):
            raise self._failed("state")
        # RFC 9207: a provider that names itself must be ours.
        if query.get("iss", self.issuer) != self.issuer:
            raise self._failed("iss")
        if "code" not in query:
            raise self._failed(query.get("error", "no code")[:100])
        claims = await self._exchanged(query["code"], flow, origin)
        return self._user_of(claims).name, flow.target

    def _redirect(self, origin: str) -> str:
        return (self._own or origin) + BACK

    async def _exchanged(self, code: str, flow: Flow, origin: str) -> dict[str, Any]:
        """The checked claims of the ID token that the code is worth."""
        provider = await self._known()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect(origin),
            "client_id": self._client,
            "code_verifier": flow.verifier,
        }
        pair = (quote(self._client, safe=""), quote(self._secret, safe="")) if self._secret else None
        answer = await self._fetched("POST", provider.token, data=form, auth=pair)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise self._failed("no ID token")
        return self._claims(token, provider, flow.nonce)

    def _claims(self, token: str, provider: Provider, nonce: str) -> dict[str, Any]:
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        rules = jwt.JWTClaimsRegistry(
            leeway=LEEWAY,
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": self._client},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            claims = dict(jwt.decode(token, KeySet.import_key_set(provider.keys), algorithms=list(ALGORITHMS)).claims)
            rules.validate(claims)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            log.info("an ID token was refused", reason=str(error)[:200])
            # Keys may have changed since they were fetched: the next try fetches them again.
            self._provider = None
            raise self._failed("the ID token is not valid") from None
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", "" if several else self._client) != self._client:
            raise self._failed("azp")
        return claims

    def _user_of(self, claims: Mapping[str, Any]) -> User:
        """By issuer and subject alone: a name or an address that somebody gave themselves opens nobody's account."""
        subject = f"{self.issuer} {claims['sub']}"[:500]
        found = self._users.by_subject(subject)
        if found is None and self._new_users:
            found = self._made(subject, claims)
        if found is None:
            raise self._failed(f"ask an administrator to add the subject “{subject}”")
        if found.disabled:
            raise self._failed("disabled")
        return found

    def _made(self, subject: str, claims: Mapping[str, Any]) -> User:
        wanted = str(claims.get("preferred_username") or claims.get("email") or claims["sub"])[:50]
        mark = hashlib.sha256(subject.encode("utf-8", "replace")).hexdigest()[:8]
        try:
            name = plain(wanted)
        except DanqingError:
            name = f"user-{mark}"
        name = f"{name}-{mark}" if self._users.find(name) is not None else name
        return self._users.add(name, ARTIST, subject=subject)

    async def _known(self) -> Provider:
        if self._provider is None or self._provider.until < time.monotonic():
            told = await self._fetched("GET", self.issuer.rstrip("/") + "/.well-known/openid-configuration")
            if told.get("issuer") != self.issuer:
                raise self._failed("the discovery document names another issuer")
            ends = [str(told.get(name, "")) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
            if not all(map(_is_safe, ends)):
                raise self._failed("an endpoint is not https")
            keys = await self._fetched("GET", ends[2])
            self._provider = Provider(ends[0], ends[1], keys, time.monotonic() + LOOKED_UP_SECONDS)
        return self._provider

    async def _fetched(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        import httpx

        try:
            async with (
                httpx.AsyncClient(
                    timeout=TIMEOUT, follow_redirects=False, headers={"Accept": "application/json"}
                ) as client,
                client.stream(method, url, **more) as answer,
            ):
                return await _json(answer)
        except (httpx.HTTPError, ValueError) as error:
            log.warning("OpenID Connect provider", url=url, error=str(error)[:200] or type(error).__name__)
            raise self._failed(f"{urlsplit(url).netloc} does not answer as it should") from None

    def _failed(self, reason: str) -> DanqingError:
        return DanqingError("oidc_failed", issuer=urlsplit(self.issuer).netloc, reason=reason)


async def _json(answer: httpx.Response) -> dict[str, Any]:
    import json

    body = b""
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > BODY_LIMIT:
            raise ValueError("too long")
    if answer.status_code != 200:
        raise ValueError(f"status {answer.status_code}")
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def _is_safe(url: str) -> bool:
    """https, or a provider on this machine."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK))


def _hashed(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "replace")).hexdigest()
