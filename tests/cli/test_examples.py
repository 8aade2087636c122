"""The example handlers, called directly."""

import base64
import io
import re
import time
from email.utils import formatdate
from functools import partial
from types import SimpleNamespace

import msgspec
import pytest
import trio
from PIL import Image

from examples import app as examples
from examples.app import Checksum, Fail, Flaky, Request, Sleep, Thumbnail
from taskward import Discard, Retry

CONTEXT = SimpleNamespace(id="task-1", attempt=1)


def test_all_the_documented_types_are_there():
    types = {"noop", "echo", "sleep", "fail", "flaky", "http.request", "checksum", "thumbnail"}
    assert set(examples.app.handlers) == types


async def test_the_ones_to_play_with(autojump_clock):
    assert await examples.noop({"any": "thing"}) is None
    assert await examples.echo([1, None]) == [1, None]
    before = trio.current_time()
    await examples.sleep(Sleep(3.0))
    assert trio.current_time() - before == 3.0
    with pytest.raises(RuntimeError, match="on purpose"):
        await examples.fail(Fail("on purpose"))


async def test_flaky_fails_as_often_as_asked():
    for attempt in (1, 2):
        with pytest.raises(RuntimeError, match=f"attempt {attempt} of 2"):
            await examples.flaky(Flaky(2), SimpleNamespace(attempt=attempt))
    assert await examples.flaky(Flaky(2), SimpleNamespace(attempt=3)) == {"attempt": 3}


@pytest.mark.parametrize(
    ("type_", "payload"),
    [
        ("sleep", {}),
        ("sleep", {"seconds": -1}),
        ("sleep", {"seconds": "1"}),
        ("fail", {"mesage": "misspelt"}),
        ("flaky", {"fail_times": 1.5}),
        ("http.request", {"url": "file:///etc/passwd"}),
        ("http.request", {"url": "http://x", "method": "BREW"}),
        ("checksum", {}),
        ("checksum", {"text": "a", "bytes_base64": "YQ=="}),
        ("checksum", {"text": "a", "algorithm": "crc"}),
        ("checksum", {"text": "a", "rounds": 0}),
        ("thumbnail", {"max_size": 10}),
    ],
)
def test_a_wrong_payload_is_refused(type_, payload):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(payload, examples.app.handlers[type_].payload_type)


def test_checksum_digests_the_digest():
    def hex_of(**fields):
        return examples.checksum(msgspec.convert(fields, Checksum))["hex"]

    # FIPS 180-2, appendix B.1; and the double digest that Bitcoin's wiki gives for "hello".
    assert hex_of(text="abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hex_of(text="hello", rounds=2) == "9595c9df90075148eb06860365df33584b75bff782a510c6cd4883a419833d50"
    assert hex_of(bytes_base64="YWJj") == hex_of(text="abc")
    assert hex_of(text="abc", algorithm="md5") == "900150983cd24fb0d6963f7d28e17f72"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "CMYK"])
def test_thumbnail_fits_the_size_and_keeps_the_shape(mode):
    large = io.BytesIO()
    Image.new(mode, (400, 200)).save(large, "TIFF")
    found = examples.thumbnail(Thumbnail(base64.b64encode(large.getvalue()).decode(), max_size=100))
    assert (found["width"], found["height"]) == (100, 50)
    with Image.open(io.BytesIO(base64.b64decode(found["image_base64"]))) as small:
        assert (small.format, small.size) == ("PNG", (100, 50))


@pytest.mark.parametrize("text", ["not base64!", base64.b64encode(b"no image").decode(), ""])
def test_what_is_no_image_is_not_tried_again(text):
    with pytest.raises(Discard, match="not an image"):
        examples.thumbnail(Thumbnail(text))


def test_an_image_cut_short_is_not_tried_again():
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "PNG")
    with pytest.raises(Discard):
        examples.thumbnail(Thumbnail(base64.b64encode(whole.getvalue()[:500]).decode()))


class Hook:
    """Something on a port that takes webhooks: answers `answer`, keeps what it got."""

    def __init__(self, answer):
        self.answer = answer
        self.got = b""

    async def serve(self, stream):
        while not self.complete():
            self.got += await stream.receive_some()
        await stream.send_all(self.answer)

    def complete(self):
        head, end, body = self.got.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        return bool(end) and len(body) == (int(length[1]) if length else 0)


async def deliver(nursery, answer, **fields):
    hook = Hook(answer)
    (listener,) = await nursery.start(partial(trio.serve_tcp, hook.serve, 0, host="127.0.0.1"))
    port = listener.socket.getsockname()[1]
    try:
        with trio.fail_after(10):
            return hook, await examples.http_request(Request(f"http://127.0.0.1:{port}/hook?a=b", **fields), CONTEXT)
    finally:
        nursery.cancel_scope.cancel()


async def test_a_webhook_is_delivered_with_its_id(nursery):
    answer = b"HTTP/1.1 201 Created\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000
    hook, found = await deliver(nursery, answer, body={"n": 1}, headers={"X-Mine": "yes"})
    assert found == {"status": 201, "body": "x" * 1024}
    head, _, body = hook.got.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /hook?a=b HTTP/1.1\r\n")
    assert b"idempotency-key: task-1" in head.lower()
    assert b"x-mine: yes" in head.lower()
    assert msgspec.json.decode(body) == {"n": 1}


async def test_a_text_is_sent_as_it_is_and_null_not_at_all(nursery):
    hook, _ = await deliver(nursery, b"HTTP/1.1 204 No Content\r\n\r\n", body="a text", method="PUT")
    assert hook.got.endswith(b"\r\n\r\na text")


async def test_null_is_no_body(nursery):
    hook, found = await deliver(nursery, b"HTTP/1.1 204 No Content\r\n\r\n", method="GET")
    assert found == {"status": 204, "body": ""}
    assert b"content-type" not in hook.got.lower()


async def test_a_refusal_ends_the_delivery(nursery):
    with pytest.raises(Discard, match="answered 404"):
        await deliver(nursery, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
def test_a_client_s_error_is_final(status):
    with pytest.raises(Discard):
        examples.require_success(status, "5", now=0.0)


@pytest.mark.parametrize("status", [301, 408, 429, 500, 503])
def test_other_answers_are_tried_again(status):
    with pytest.raises(examples.DeliveryFailed, match=str(status)):
        examples.require_success(status, None, now=0.0)
    with pytest.raises(examples.DeliveryFailed):
        examples.require_success(status, "whenever", now=0.0)


@pytest.mark.parametrize("status", [408, 429, 503])
def test_retry_after_is_honoured(status):
    now = time.time()
    for text, seconds in (("120", 120), (formatdate(now + 60, usegmt=True), 60), ("999999999", 86_400)):
        with pytest.raises(Retry) as raised:
            examples.require_success(status, text, now=now)
        assert raised.value.after == pytest.approx(seconds, abs=1)


@pytest.mark.parametrize("status", [200, 201, 204])
def test_success_is_success(status):
    examples.require_success(status, None, now=0.0)
