"""The one question asked before anything else of a call: who is it?"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from upscaled_server.access import keys
from upscaled_server.access.caller import ANONYMOUS, Caller
from upscaled_server.access.directory import Directory
from upscaled_server.access.gates import Gates
from upscaled_server.access.pace import Throttle
from upscaled_server.access.sessions import Sessions
from upscaled_server.access.settings import AccessSettings
from upscaled_server.access.tokens import Tokens, is_token
from upscaled_server.errors import KeysThrottled, NotFound, PermissionDenied, Unauthenticated

log = logging.getLogger(__name__)

_BURST_SECONDS = 5.0
_REPORT_SECONDS = 10.0
# Answers that wait, from all addresses together.
_MAX_HELD_BACK = 2000
# Compared with where there is no such key, so that right and wrong ones cost the same.
_NOBODY = secrets.token_bytes(32)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls: the caller, the id of its key ("" without one), and whether that may administer."""

    caller: Caller
    key_id: str = ""
    admin: bool = False

    def check_admin(self) -> None:
        """Raises `PermissionDenied`."""
        if not self.admin:
            raise PermissionDenied(
                "administration needs a key made with `upscaled keys create NAME --admin`, or the command "
                "`upscaled keys` on the server's machine, run by the user of the server",
                caller=self.caller.name,
            )


NO_KEY = Identity(ANONYMOUS)
OPERATOR = Identity(ANONYMOUS, key_id="admin.sock", admin=True)
"""Whoever can open the socket in the server's data folder."""


class Access:
    """Decides who calls and keeps what is known of the running calls.

    Keys are needed as soon as there is one, unless `optional`: then only calls that present one are checked.
    """

    def __init__(
        self,
        directory: Directory,
        settings: AccessSettings,
        *,
        optional: bool = False,
        tokens: Tokens | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`tokens`: verifies what callers may send in place of a key."""
        self.directory = directory
        self._tokens = tokens
        self.gates = Gates(settings.max_concurrent_per_caller)
        self.sessions = Sessions()
        directory.on_end = self.sessions.end
        self._optional = optional
        self._needed = False
        self._wall_clock = wall_clock
        rate = settings.wrong_keys_per_second
        self._throttle = Throttle(rate, time.monotonic, burst=max(1.0, rate * _BURST_SECONDS))
        self._held_back = 0
        self._refused = 0
        self._report_due = 0.0

    @property
    def needs_key(self) -> bool:
        """Once true it stays so: a server does not open because its last caller was deleted."""
        self._needed = self._needed or (not self._optional and self.knows_somebody)
        return self._needed

    @property
    def knows_somebody(self) -> bool:
        """Whether there is a key, or tokens take the place of keys."""
        return self._tokens is not None or self.directory.has_keys

    def identify(self, authorization: str | None) -> Identity:
        """Who sent this `authorization` header. Raises `Unauthenticated`.

        Keys are found by the hash of all that was presented, so a key that is nearly right goes the same way
        as one that is not like any, and how long that takes tells nothing of a key.
        """
        if authorization is None:
            if not self.needs_key:
                return NO_KEY
            raise Unauthenticated("no key: send it as metadata `authorization: Bearer KEY`")
        scheme, _, presented = authorization.partition(" ")
        is_bearer = scheme.lower() == "bearer"
        if is_bearer and self._tokens is not None and is_token(presented):
            return self._identify_token(self._tokens, presented)
        if not self.needs_key and not (is_bearer and keys.looks_like_key(presented)):
            return NO_KEY  # meant for what is in front of the server
        if not is_bearer:
            raise Unauthenticated("the authorization is not of the form `Bearer KEY`")
        digest = keys.digest(presented)
        key = self.directory.find_key(digest)
        right = hmac.compare_digest(digest, _NOBODY if key is None else key.digest)
        if key is None or not right:
            raise Unauthenticated("the key is not valid")
        self._check_time(key)
        self.directory.note_use(key)
        try:
            return Identity(self.directory.caller(key.caller).caller, key.id, key.admin)
        except NotFound:  # another server is deleting the caller, and its keys with it
            raise Unauthenticated("the key is not valid") from None

    def _identify_token(self, tokens: Tokens, presented: str) -> Identity:
        name = tokens.caller_of(presented)
        try:
            return Identity(self.directory.caller(name).caller)
        except NotFound:
            raise Unauthenticated(
                f"the token is valid, but there is no caller {name[:80]!a}; `upscaled callers create`"
            ) from None

    async def hold_back(self, address: str) -> None:
        """Wait before the refusal of a call from this address, if it has had many. Raises `KeysThrottled`.

        Calls with a valid key are not asked to wait, wherever they come from.
        """
        self._report(address)
        delay = self._throttle.delay(address)
        if not delay:
            return
        if self._held_back >= _MAX_HELD_BACK:
            raise KeysThrottled(
                "too many calls without a valid key; give a valid key",
                retry_after_seconds=delay,
                limit=_MAX_HELD_BACK,
            )
        self._held_back += 1
        try:
            await asyncio.sleep(delay)
        finally:
            self._held_back -= 1

    def _check_time(self, key: keys.Key) -> None:
        """What the key's holder may know, having shown the whole of it."""
        if key.revoked is not None:
            raise Unauthenticated(f"the key {key.id} was revoked; ask for a new one", key=key.id)
        if not key.works_at(self._wall_clock()):
            raise Unauthenticated(f"the key {key.id} has expired; ask for a new one", key=key.id)

    def _report(self, address: str) -> None:
        """Refusals in the log, at a rate that fills no disk. Nothing that was presented is written down."""
        self._refused += 1
        now = time.monotonic()
        if now >= self._report_due:
            log.warning("refused %d calls without a valid key, the last from %s", self._refused, address)
            self._refused, self._report_due = 0, now + _REPORT_SECONDS
