"""HTTP through a real Envoy, and the playground in a real browser: `make edge-test`."""
