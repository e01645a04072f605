#!/bin/sh
# The committed stubs must be what the contract generates.
set -eu
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
"$1" scripts/generate_stubs.py "$fresh"
diff -r -x __init__.py -x __pycache__ "$fresh/upscaled/v1" client/upscaled/v1 || {
    echo "client/upscaled/v1 is not what proto/ generates: run 'make proto' and commit" >&2
    exit 1
}
