"""Where the server is and how it is reached: target, encryption, channel settings."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from upscaled._errors import InvalidOptionError
from upscaled._types import TLS, NotGiven, TLSLike
from upscaled._version import __version__

DEFAULT_SERVER: Final = "127.0.0.1:50051"
SERVER_VARIABLE: Final = "UPSCALED_SERVER"
API_KEY_VARIABLE: Final = "UPSCALED_API_KEY"

# The server's bound for one message is 64 MiB of payload (`Limits.max_message_bytes`); the rest is fields
# around it.
MAX_MESSAGE_BYTES: Final = (64 + 1) * 1024 * 1024
_KEEPALIVE_MS: Final = 30_000
_KEEPALIVE_TIMEOUT_MS: Final = 10_000
# grpc waits 1 s after the first refused connection and doubles up to 2 min; the SDK's own backoff is the
# slower one.
_RECONNECT_MS: Final = 100
_MAX_RECONNECT_MS: Final = 5_000


def resolve_target(server: str | None) -> str:
    """The target of an explicit `server`, else of UPSCALED_SERVER, else the default of `upscaled serve`."""
    target = server or os.environ.get(SERVER_VARIABLE) or DEFAULT_SERVER
    if target.startswith(("http://", "https://", "grpc://", "grpcs://")):
        raise InvalidOptionError(
            "server: a gRPC target is expected (HOST:PORT, dns:///HOST:PORT or unix:PATH), not the URL "
            f"{target!r}. Encryption is asked for with tls=True"
        )
    if ":" not in target:
        raise InvalidOptionError(
            f"server: {target!r} names no port; HOST:PORT, dns:///HOST:PORT or unix:PATH"
        )
    return target


def resolve_api_key(api_key: str | None | NotGiven) -> str | None:
    """Not given: UPSCALED_API_KEY. `None`: no key, whatever the environment says."""
    key = os.environ.get(API_KEY_VARIABLE) if isinstance(api_key, NotGiven) else api_key
    if not key:
        return None
    if not key.isascii() or not key.isprintable() or " " in key:
        # Never show it: it may be a real key with a stray newline.
        raise InvalidOptionError("api_key: printable ASCII without spaces or line breaks is expected")
    return key


def open_channel(target: str, tls: TLSLike) -> grpc.aio.Channel:
    """A channel for the running event loop. Nothing is connected until the first call."""
    options = _options(target)
    credentials = _credentials(tls)
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    if isinstance(tls, TLS) and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return grpc.aio.secure_channel(target, credentials, options=options)


def _options(target: str) -> list[tuple[str, str | int]]:
    options: list[tuple[str, str | int]] = [
        ("grpc.primary_user_agent", f"upscaled-python/{__version__}"),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", _MAX_RECONNECT_MS),
        # Two clients in one process are two clients: closing one must not be felt by the other.
        ("grpc.use_local_subchannel_pool", 1),
        # The SDK retries itself, within the deadline and with one request id.
        ("grpc.enable_retries", 0),
    ]
    if target.startswith("dns:"):
        # A headless Kubernetes service resolves to every replica; the default would pin all calls to the
        # first.
        options.append(("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})))
    if target.startswith(("127.", "localhost:", "[::1]:")):
        options.append(("grpc.enable_http_proxy", 0))
    return options


def _credentials(tls: TLSLike) -> grpc.ChannelCredentials | None:
    if tls is None or tls is False:
        return None
    if tls is True:
        return grpc.ssl_channel_credentials()
    settings = tls if isinstance(tls, TLS) else TLS(ca=tls)
    if (settings.cert is None) != (settings.key is None):
        raise InvalidOptionError("tls: cert and key belong together; one of them is missing")
    return grpc.ssl_channel_credentials(
        root_certificates=_pem(settings.ca, "ca"),
        private_key=_pem(settings.key, "key"),
        certificate_chain=_pem(settings.cert, "cert"),
    )


def _pem(value: str | os.PathLike[str] | bytes | None, name: str) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    try:
        return Path(value).read_bytes()
    except OSError as error:
        raise InvalidOptionError(
            f"tls: cannot read {name} from {os.fspath(value)!r}: {error.strerror}"
        ) from error
