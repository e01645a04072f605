"""The rows of an image in bands: every row once, nothing read that is not there, and no band much larger than
another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upscaled_server.engine.architectures import Architecture, Compact, Rrdb
from upscaled_server.engine.bands.flow import Flow, Work
from upscaled_server.engine.bands.graph import IMAGE, StreamGraph, stream_graph
from upscaled_server.errors import ProcessingFailed

NETWORKS: list[Architecture] = [
    Compact(convs=0, features=4),
    Compact(convs=3, features=4),
    Compact(convs=16),
    Rrdb(blocks=1, features=4, growth=2),
    Rrdb(blocks=3, features=4, growth=2),
    Rrdb(blocks=2, scale=2, features=4, growth=2),
]

networks = st.sampled_from(NETWORKS)


def _bands(
    architecture: Architecture, height: int, rows: int
) -> Iterator[tuple[StreamGraph, int, int, tuple[Work, ...]]]:
    """An image of `height` rows band by band: the graph, the first row of the image that is still read, where
    the band ends, and its work."""
    graph = stream_graph(architecture)
    flow, end = Flow(graph, height), 0
    while not flow.complete:
        assert end < height + graph.lag_rows, "it should have caught up"
        first, end = flow.first_image_row(), end + rows
        yield graph, first, end, flow.advance(end)


@pytest.mark.parametrize("architecture", NETWORKS)
def test_the_tensors_are_used_in_the_order_of_the_weight_file(architecture: Architecture) -> None:
    names = []
    for op in stream_graph(architecture).ops:
        if op.tensor:
            names += [f"{op.tensor}.weight", f"{op.tensor}.bias"]
        if op.slopes:
            names.append(op.slopes)
    assert names == list(architecture.shapes())


@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_row_is_finished_once_its_receptive_field_is_there(architecture: Architecture) -> None:
    graph = stream_graph(architecture)
    behind = graph.lags[graph.output] / architecture.scale
    assert architecture.receptive_field - 2 * architecture.multiple < behind <= architecture.receptive_field


@settings(max_examples=60)
@given(networks, st.integers(1, 90), st.integers(1, 24))
def test_every_row_of_every_blob_is_yielded_once_and_in_order(
    architecture: Architecture, height: int, band: int
) -> None:
    rates = stream_graph(architecture).rates
    height, band = height * architecture.multiple, band * architecture.multiple
    ends = dict.fromkeys(rates, 0)
    for _, _, _, works in _bands(architecture, height, band):
        for work in works:
            for blob, (start, stop) in work.yields.items():
                assert start == ends[blob]
                assert stop > start if work.runs else stop == start
                ends[blob] = stop
    ends.pop(IMAGE)
    assert ends == {name: height * rates[name][0] // rates[name][1] for name in ends}


@settings(max_examples=60)
@given(networks, st.integers(1, 90), st.integers(1, 24))
def test_an_operation_reads_only_rows_that_are_there(
    architecture: Architecture, height: int, band: int
) -> None:
    height, band = height * architecture.multiple, band * architecture.multiple
    kept: dict[tuple[int, str], int] = {}
    for graph, first_row, end, works in _bands(architecture, height, band):
        for work in works:
            for blob, join in work.joins.items():
                # What was carried is what is held now; at the beginning that is the zero row or nothing.
                assert join.held == kept.get((work.segment, blob), join.held)
                assert join.kept <= join.held + join.new
                kept[work.segment, blob] = join.kept
            for reader, (offset, rows) in work.parts.items():
                assert 0 <= offset < offset + rows <= work.joins[graph.blob_of[reader]].rows
            for start, stop in work.image_rows.values():
                assert max(start, 0) >= first_row
                assert -1 <= start < stop <= min(height + 1, max(end, height + 1))
                assert min(stop, height) <= end


@settings(max_examples=40)
@given(networks, st.integers(1, 200), st.integers(2, 24))
def test_no_band_is_much_larger_than_the_others_not_even_the_last(
    architecture: Architecture, height: int, band: int
) -> None:
    height, band = height * architecture.multiple, band * architecture.multiple
    for graph, _, _, works in _bands(architecture, height, band):
        for work in works:
            for blob, (start, stop) in work.yields.items():
                up, down = graph.rates[blob]
                # A dense block may have to gather five rows before it yields its first.
                assert (stop - start) * down / up <= band + 8 * architecture.multiple


def test_rows_carried_are_few_and_do_not_depend_on_the_band() -> None:
    graph = stream_graph(Compact(convs=16))
    # Two rows of 64 channels for each convolution but the first, which reads the image itself.
    assert graph.carried_values_per_column == 17 * 2 * 64


def test_a_band_must_bring_rows() -> None:
    flow = Flow(stream_graph(NETWORKS[0]), 20)
    flow.advance(8)
    with pytest.raises(ProcessingFailed):
        flow.advance(8)
