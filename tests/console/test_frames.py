"""Frames of a console, against those of ``websockets``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side

from panel.console.frames import FRAME_BYTES, FrameError, FrameReader, close, frames_of, ping, pong

Message = tuple[Opcode, bytes]
payloads = st.one_of(
    st.binary(max_size=300), st.integers(0, 70_000).map(lambda size: bytes(range(256)) * (size // 256 + 1))
)
messages = st.lists(
    st.one_of(
        st.tuples(st.just(Opcode.BINARY), payloads),
        st.tuples(st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=125)),
    ),
    max_size=8,
)


class Heard:
    """What a reader passed on."""

    def __init__(self) -> None:
        self.payload = bytearray()
        self.controls: list[Message] = []
        self.reader = FrameReader(self.payload.extend, self._control)

    def _control(self, opcode: Opcode, payload: bytes) -> bool:
        self.controls.append((opcode, payload))
        return opcode is Opcode.CLOSE


@given(messages, st.lists(st.integers(1, 5000), max_size=30))
def test_what_a_browser_sends_arrives_however_it_is_cut(sent: list[Message], cuts: list[int]) -> None:
    wire = b"".join(Frame(opcode, payload).serialize(mask=True) for opcode, payload in sent)
    heard, at = Heard(), 0
    for cut in [*cuts, len(wire)]:
        heard.reader.feed(wire[at : at + cut])
        at += cut
    heard.reader.feed(wire[at:])
    assert bytes(heard.payload) == b"".join(payload for opcode, payload in sent if opcode is Opcode.BINARY)
    assert heard.controls == [message for message in sent if message[0] is not Opcode.BINARY]


@given(st.binary(max_size=300_000))
def test_what_a_vm_sends_is_frames_that_a_browser_reads(data: bytes) -> None:
    browser = Protocol(Side.CLIENT, state=OPEN, max_size=None)
    browser.receive_data(b"".join(frames_of(data)))
    frames = [event for event in browser.events_received() if isinstance(event, Frame)]
    assert browser.parser_exc is None
    assert b"".join(frame.data for frame in frames) == data
    assert all(frame.opcode is Opcode.BINARY and frame.fin and len(frame.data) <= FRAME_BYTES for frame in frames)


def test_control_frames() -> None:
    browser = Protocol(Side.CLIENT, state=OPEN)
    browser.receive_data(ping() + pong(b"x") + close(4410, "原因"))
    assert [event.opcode for event in browser.events_received() if isinstance(event, Frame)] == [9, 10, 8]
    assert browser.close_rcvd is not None
    assert (browser.close_rcvd.code, browser.close_rcvd.reason) == (4410, "原因")


def test_a_message_in_pieces_with_a_ping_between() -> None:
    heard = Heard()
    for frame in (Frame(Opcode.BINARY, b"ab", fin=False), Frame(Opcode.PING, b"?"), Frame(Opcode.CONT, b"cd")):
        heard.reader.feed(frame.serialize(mask=True))
    assert (bytes(heard.payload), heard.controls) == (b"abcd", [(Opcode.PING, b"?")])


def test_nothing_is_read_after_a_close() -> None:
    heard = Heard()
    heard.reader.feed(b"".join(Frame(op, b"").serialize(mask=True) for op in (Opcode.CLOSE, Opcode.PING)))
    assert heard.controls == [(Opcode.CLOSE, b"")]


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (Frame(Opcode.TEXT, b"hello").serialize(mask=True), 1003),
        (Frame(Opcode.BINARY, b"hello").serialize(mask=False), 1002),
        (b"\xc2\x80\0\0\0\0", 1002),
        (Frame(Opcode.CONT, b"hello").serialize(mask=True), 1002),
        (
            Frame(Opcode.BINARY, b"a", fin=False).serialize(mask=True)
            + Frame(Opcode.BINARY, b"b").serialize(mask=True),
            1002,
        ),
        (b"\x83\x80\0\0\0\0", 1002),  # an opcode that is nobody's
        (b"\x8b\x80\0\0\0\0", 1002),
        (b"\x09\x80\0\0\0\0", 1002),  # a ping in pieces
        (b"\x89\xfe\x01\0\0\0\0\0", 1002),  # a long one
        (b"\x82\xff" + b"\xff" * 12, 1002),
    ],
    ids=[
        "text",
        "bare",
        "extension",
        "continues nothing",
        "not continued",
        "opcode 3",
        "opcode 11",
        "cut ping",
        "long ping",
        "length",
    ],
)
def test_what_is_no_frame_of_a_console(wire: bytes, code: int) -> None:
    with pytest.raises(FrameError) as caught:
        Heard().reader.feed(wire)
    assert caught.value.code == code


def test_a_frame_of_any_size_is_streamed() -> None:
    heard = Heard()
    heard.reader.feed(b"\x82\xff" + (2**40).to_bytes(8, "big") + bytes(4) + b"x" * 10)
    for _ in range(3):
        heard.reader.feed(b"y" * 1000)
    assert len(heard.payload) == 3010
