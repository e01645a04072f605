"""Where an image comes from: bytes in the request, or chunks of a stream."""
