"""Services of the contract that this version does not have: every rpc answers UNIMPLEMENTED and names
itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from google.protobuf.descriptor import ServiceDescriptor

from upscaled_server.errors import NotImplementedHere


def unimplemented(base: type, service: ServiceDescriptor) -> Any:
    """A servicer of `base` whose every rpc raises `NotImplementedHere`."""
    methods = {method.name: _refuse(f"{service.name}.{method.name}") for method in service.methods}
    return type(base.__name__, (base,), methods)()


def _refuse(rpc: str) -> Callable[..., Awaitable[NoReturn]]:
    async def call(self: object, request: Any, context: Any) -> NoReturn:  # noqa: ARG001 - the shape of a handler
        raise NotImplementedHere(rpc)

    return call
