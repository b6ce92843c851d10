"""Which files a graph keeps its weights in, however it is written down."""

import pytest

from tip_adapter.encoders.graph_files import graph_digest, graph_files, weight_bytes
from tip_adapter.errors import EncoderError


def field(number, content):
    """A part of a protobuf message that has a length, below 2 MB."""
    size = len(content)
    length = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14])  # longer than need be
    tag = number << 3 | 2
    return (bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])) + length + content


def entry(key, value):
    return field(13, field(1, key) + field(2, value))


PLACES = {
    "a tensor of the graph": field(7, field(5, entry(b"location", b"evil.bin"))),
    "the value before the key": field(7, field(5, field(13, field(2, b"evil.bin") + field(1, b"location")))),
    "a constant": field(7, field(1, field(5, field(5, entry(b"location", b"evil.bin"))))),
    "a list of constants": field(7, field(1, field(5, field(10, entry(b"location", b"evil.bin"))))),
    "a sparse tensor": field(7, field(15, field(1, entry(b"location", b"evil.bin")))),
    "a branch": field(7, field(1, field(5, field(6, field(5, entry(b"location", b"evil.bin")))))),
    "a function": field(25, field(7, field(5, field(5, entry(b"location", b"evil.bin"))))),
    "training": field(20, field(1, field(5, entry(b"location", b"evil.bin")))),
    "another graph after the first": field(7, b"") + field(7, field(5, entry(b"location", b"evil.bin"))),
}


@pytest.fixture
def graph(tmp_path, monkeypatch):
    monkeypatch.setenv("TIP_ADAPTER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "vision_model.onnx"


@pytest.mark.parametrize("place", PLACES)
def test_weights_elsewhere_are_found_wherever_they_are_named(graph, place):
    graph.write_bytes(b"\x08\x08" + PLACES[place])
    (graph.parent / "evil.bin").write_bytes(b"1")
    with pytest.raises(EncoderError, match=r"beside it in vision_model.onnx_data, got 'evil.bin'"):
        graph_files(graph)


def test_own_weights_count_and_are_part_of_the_identity(graph):
    data = graph.parent / "vision_model.onnx_data"
    graph.write_bytes(field(7, field(5, entry(b"location", data.name.encode()) + entry(b"offset", b"0"))))
    with pytest.raises(EncoderError, match="found none"):
        graph_files(graph)
    data.write_bytes(b"1")
    assert graph_files(graph) == [graph, data]
    before = graph_digest(graph)
    data.write_bytes(b"2")
    assert graph_digest(graph) != before
    (graph.parent / "vision_model.onnx.bak").write_bytes(b"not a part")
    assert graph_files(graph) == [graph, data]


def nested(depth):
    inner = b""
    for _ in range(depth):
        inner = field(1, field(5, field(6, inner)))
    return field(7, inner)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\x3a\x7f", "truncated"),
        (b"\xff" * 40, "number without end"),
        (b"\x0b", "unknown kind"),
        (field(7, field(1, field(4, b"Loop"))), "Loop, which may never end"),
        (nested(60), "without end"),
    ],
)
def test_what_is_no_graph_is_refused_in_one_line(graph, content, words):
    graph.write_bytes(content)
    with pytest.raises(EncoderError, match=f"a whole ONNX graph, got .*{words}") as caught:
        graph_files(graph)
    assert "\n" not in str(caught.value)


def test_weights_larger_than_the_memory_are_refused(tmp_path, monkeypatch):
    graph = tmp_path / "a.onnx"
    graph.write_bytes(field(7, field(5, entry(b"location", b"a.onnx_data"))))
    (tmp_path / "a.onnx_data").write_bytes(b"123456")
    assert weight_bytes(graph) == graph.stat().st_size + 6
    monkeypatch.setattr("tip_adapter.encoders.graph_files._memory_bytes", lambda: 10)
    with pytest.raises(EncoderError, match=r"to fit into the memory .*choose a smaller encoder"):
        weight_bytes(tmp_path / "a.onnx")
