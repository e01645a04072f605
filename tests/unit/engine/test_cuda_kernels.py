"""Triton's kernels equal the plain operations: on a card, else in Triton's interpreter where it is
installed."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from upscaled_server.engine.backends.cuda.fused import Epilogue, Ops, PlainOps, Raw

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None,
        reason="no GPU build of torch, so no Triton; `make kernels` brings it",
    ),
    # Its interpreter rounds what lies outside of the image too, which is then left out.
    pytest.mark.filterwarnings("ignore:invalid value encountered in cast"),
]

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module")
def ops() -> Ops:
    from upscaled_server.engine.backends.cuda.triton_kernels import TritonOps

    return TritonOps()


def _random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    values = torch.randn(shape, generator=generator).to(DEVICE, dtype)
    return values.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("activation", ["none", "leaky", "prelu"])
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("residuals", [0, 1, 2])
@pytest.mark.parametrize("channels", [8, 12])
def test_parts_are_joined_as_the_plain_operations_do(
    ops: Ops, dtype: torch.dtype, activation: Any, count: int, residuals: int, channels: int
) -> None:
    big = _random(2, 8 * channels, 5, 7, dtype=dtype)
    parts = [big[:, number * channels : (number + 1) * channels] for number in range(count)]
    epilogue = Epilogue(
        _random(channels), activation, _random(channels).abs() if activation == "prelu" else None
    )
    others = [(big[:, -channels * (number + 1) :][:, :channels], 0.2) for number in range(residuals)]
    expected = PlainOps().join(parts, epilogue, others)
    found = ops.join(parts, epilogue, others)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 4e-3
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_a_result_may_be_written_over_a_part_or_into_rows_of_a_buffer(ops: Ops) -> None:
    part, epilogue = _random(1, 8, 4, 6), Epilogue(_random(8), "leaky")
    expected = PlainOps().join((part,), epilogue)
    buffer = _random(1, 8, 9, 6)
    before = buffer.clone()
    ops.join((part,), epilogue, out=buffer[:, :, 2:6])
    torch.testing.assert_close(buffer[:, :, 2:6], expected)
    assert torch.equal(buffer[:, :, :2], before[:, :, :2])
    assert torch.equal(buffer[:, :, 6:], before[:, :, 6:])
    assert ops.join((part,), epilogue, out=part) is part
    torch.testing.assert_close(part, expected)


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("shuffle", "channels"), [(1, 8), (1, 3), (4, 48), (3, 32)])
def test_pixels_are_as_the_plain_operations_make_them(
    ops: Ops, shuffle: int, channels: int, deep: bool, bits: int, planes: int
) -> None:
    raw = Raw(_random(2, channels, 5, 7) * 0.5 + 0.3, _random(channels) * 0.1, shuffle, shuffle > 1)
    low, high, dtype = (-(1 << 15), 1 << 15, torch.int16) if deep else (0, 256, torch.uint8)
    image = torch.randint(low, high, (2, 5, 7, 3), generator=torch.Generator().manual_seed(1), dtype=dtype)
    image = image.to(DEVICE)
    (found, wrong), (expected, _) = (each.to_pixels(raw, image, bits, planes) for each in (ops, PlainOps()))
    assert found.shape == expected.shape == (2, 5 * shuffle, 7 * shuffle, planes)
    assert found.dtype == expected.dtype
    difference = ((found.int() & 0xFFFF) - (expected.int() & 0xFFFF)).abs()
    # Sums in another order may round the other way.
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 0.02
    assert wrong.item() == 0


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_what_is_not_finite_is_noticed(ops: Ops, value: float) -> None:
    values = _random(1, 3, 20, 30)
    values[0, 1, 19, 29] = value
    image = torch.zeros((1, 20, 30, 3), dtype=torch.uint8, device=DEVICE)
    for each in (ops, PlainOps()):
        for planes in (1, 3):
            _, wrong = each.to_pixels(Raw(values, torch.zeros(3, device=DEVICE)), image, 8, planes)
            assert wrong.item() == 1
