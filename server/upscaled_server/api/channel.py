"""Options of the server's gRPC channel arguments: message sizes, keepalive."""

from __future__ import annotations

ChannelOptions = list[tuple[str, int]]


def channel_options(max_message_bytes: int) -> ChannelOptions:
    """Messages are taken as they are: images are compressed, and a message that is packed small would be
    unpacked to as much as may come at all. Half-open peers are found within 40 seconds (gRPC's own default is
    two hours); pings of clients are bounded."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # Without this, its default of a minute wins over the keepalive timeout.
        ("grpc.http2.ping_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Clients may ping this often during a long call; more often ends in GOAWAY.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.max_concurrent_streams", 1024),
        # Two servers on one port would share its connections silently.
        ("grpc.so_reuseport", 0),
    ]
