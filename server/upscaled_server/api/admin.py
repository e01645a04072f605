"""`Admin`: callers, keys, models in memory. Who may call it is decided before, by the interceptor."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc.aio
from google.protobuf.empty_pb2 import Empty

from upscaled.v1 import admin_pb2, admin_pb2_grpc
from upscaled_server.access.directory import DEFAULT_OVERLAP_SECONDS, Directory
from upscaled_server.access.gates import Gates
from upscaled_server.api import caller, log_levels
from upscaled_server.api.admin_translate import (
    caller_position,
    from_caller,
    from_key,
    key_position,
    page_of,
    to_caller,
    to_changed,
    to_description,
    to_seconds,
)
from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.errors import FailedPrecondition, InvalidField
from upscaled_server.pool.pool import Pool
from upscaled_server.telemetry import logs

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

audit = logging.getLogger(logs.AUDIT)

_LONGEST_OVERLAP = 30 * 24 * 3600.0
_LONGEST_LIFETIME = 100 * 366 * 24 * 3600.0


class AdminServicer(admin_pb2_grpc.AdminServicer):
    """`pool` is None where nothing is computed: callers and keys are administered without a server.

    `delete_all_of` deletes what a caller has stored, by its name.
    """

    def __init__(self, directory: Directory, gates: Gates, catalogue: Catalogue, pool: Pool | None) -> None:
        self._directory = directory
        self._gates = gates
        self._catalogue = catalogue
        self._pool = pool
        self.delete_all_of: Callable[[str], Awaitable[None]] = _has_stored_nothing

    async def CreateCaller(
        self, message: admin_pb2.CreateCallerRequest, context: Context
    ) -> admin_pb2.Caller:
        new = to_caller(message.caller, self._resolve)
        record = await self._directory.create_caller(new)
        _note("CreateCaller", caller=new.name)
        return from_caller(record)

    async def GetCaller(self, message: admin_pb2.GetCallerRequest, context: Context) -> admin_pb2.Caller:
        return from_caller(self._directory.caller(_required("caller", message.caller)))

    async def ListCallers(
        self, message: admin_pb2.ListCallersRequest, context: Context
    ) -> admin_pb2.ListCallersResponse:
        page, token = page_of(
            self._directory.callers(), caller_position, size=message.page_size, token=message.page_token
        )
        return admin_pb2.ListCallersResponse(callers=map(from_caller, page), next_page_token=token)

    async def UpdateCaller(
        self, message: admin_pb2.UpdateCallerRequest, context: Context
    ) -> admin_pb2.Caller:
        before = self._directory.caller(_required("caller.name", message.caller.name))
        changed = to_changed(before.caller, message, self._resolve)
        # Without an etag it still must be the caller that was read above.
        record = await self._directory.update_caller(changed, message.caller.etag or before.etag)
        _note("UpdateCaller", caller=changed.name)
        return from_caller(record)

    async def DeleteCaller(self, message: admin_pb2.DeleteCallerRequest, context: Context) -> Empty:
        name = _required("caller", message.caller)
        if not self._directory.caller(name).mounted:
            # Before it, so that who is interrupted can do it again; and after it, for what came meanwhile.
            await self.delete_all_of(name)
        await self._directory.delete_caller(name)
        await self.delete_all_of(name)
        self._gates.forget(name)
        _note("DeleteCaller", caller=name)
        return Empty()

    async def CreateKey(
        self, message: admin_pb2.CreateKeyRequest, context: Context
    ) -> admin_pb2.CreateKeyResponse:
        lifetime = None
        if message.HasField("lifetime"):
            lifetime = to_seconds("lifetime", message.lifetime, low=1, high=_LONGEST_LIFETIME)
        key, secret = await self._directory.create_key(
            _required("caller", message.caller),
            description=to_description(message.description),
            admin=message.admin,
            lifetime=lifetime,
        )
        _note("CreateKey", caller=key.caller, key=key.id, admin=key.admin)
        return admin_pb2.CreateKeyResponse(key=from_key(key), secret=secret)

    async def ListKeys(
        self, message: admin_pb2.ListKeysRequest, context: Context
    ) -> admin_pb2.ListKeysResponse:
        if message.caller:
            self._directory.caller(message.caller)
        page, token = page_of(
            self._directory.keys_of(message.caller),
            key_position,
            size=message.page_size,
            token=message.page_token,
        )
        return admin_pb2.ListKeysResponse(keys=map(from_key, page), next_page_token=token)

    async def RotateKey(
        self, message: admin_pb2.RotateKeyRequest, context: Context
    ) -> admin_pb2.CreateKeyResponse:
        overlap = DEFAULT_OVERLAP_SECONDS
        if message.HasField("overlap"):
            overlap = to_seconds("overlap", message.overlap, low=0, high=_LONGEST_OVERLAP)
        key, secret = await self._directory.rotate_key(_required("key_id", message.key_id), overlap)
        _note("RotateKey", caller=key.caller, key=message.key_id, new_key=key.id)
        return admin_pb2.CreateKeyResponse(key=from_key(key), secret=secret)

    async def RevokeKey(self, message: admin_pb2.RevokeKeyRequest, context: Context) -> admin_pb2.Key:
        key = await self._directory.revoke_key(_required("key_id", message.key_id))
        _note("RevokeKey", caller=key.caller, key=key.id)
        return from_key(key)

    async def LoadModel(
        self, message: admin_pb2.LoadModelRequest, context: Context
    ) -> admin_pb2.LoadModelResponse:
        pool, model = self._running_pool(), self._resolve(_required("model", message.model))
        began = time.monotonic()
        await pool.load(model)
        _note("LoadModel", model=model)
        return admin_pb2.LoadModelResponse(
            device_ids=[device.name for device in pool.devices], seconds=time.monotonic() - began
        )

    async def UnloadModel(
        self, message: admin_pb2.UnloadModelRequest, context: Context
    ) -> admin_pb2.UnloadModelResponse:
        pool, model = self._running_pool(), self._resolve(_required("model", message.model))
        unloaded = await pool.unload(model)
        _note("UnloadModel", model=model)
        return admin_pb2.UnloadModelResponse(
            device_ids=[device.name for device in pool.devices] if unloaded else []
        )

    async def SetLogLevel(
        self, message: admin_pb2.SetLogLevelRequest, context: Context
    ) -> admin_pb2.SetLogLevelResponse:
        self._running_pool()  # a command's own log is nobody's concern
        logger, level = log_levels.to_setting(message)
        before = logs.level_of(logger)
        now = logs.set_level(logger, level)
        _note("SetLogLevel", logger=logger or "all", level=logging.getLevelName(now).lower())
        return admin_pb2.SetLogLevelResponse(
            logger=logger,
            level=log_levels.to_message(now),
            previous_level=log_levels.to_message(before),
        )

    def _resolve(self, model: str) -> str:
        return self._catalogue.resolve(model).name

    def _running_pool(self) -> Pool:
        if self._pool is None:
            raise FailedPrecondition("no server runs here; start one with `upscaled serve`")
        return self._pool


async def _has_stored_nothing(_caller: str) -> None:
    pass


def _required(field: str, value: str) -> str:
    if not value:
        raise InvalidField(field, "is missing", limit="a name or id", actual="nothing")
    return value


def _note(action: str, **what: str | bool) -> None:
    """One line for the audit log: who did what to which."""
    who = caller.identity.get()
    done_by = who.key_id if who.caller.name == "-" else f"{who.caller.name}/{who.key_id}"
    audit.info("%s by %s: %s", action, done_by, " ".join(f"{name}={value}" for name, value in what.items()))
