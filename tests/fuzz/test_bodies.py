"""Bodies that were right until somebody damaged them: 2xx or a problem that names what is wrong, never a 5xx."""

import json
import random
from collections import Counter

import httpx
import pytest

from tests.fuzz.conftest import Ports

SEED = 7
WHOLE = (
    b'{"type":"echo"}',
    b'{"type":"echo","payload":{"a":[1,2.5,null,true,"\\u00e9"],"b":{"c":{}}},"priority":"high","max_attempts":3}',
    b'{"type":"a.b","delay_seconds":0.5,"expires_at":"2999-01-01T00:00:00Z","tags":["x","y"],"headers":{"k":"v"}}',
    b'{"type":"t","idempotency_key":"k","timeout_seconds":1,"retry":{"base_seconds":1,"max_seconds":2,"jitter":0.5}}',
    b'[{"type":"echo"},{"type":"echo","payload":1}]',
)
# What parsers stumble over.
PIECES = (
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc3", b"\xed\xa0\x80"),
    *(b"\\ud800", b"\\u0000", b"NaN", b"Infinity", b"1e999", b"-0", b"9" * 25, b"0.1" + b"0" * 400, b"[" * 3000),
    *(b"null", b"true", b'"type":"twice",', b"/* */", b"\r\n\r\n", b"<script>", b"${jndi:x}", b" " * 5000),
)


@pytest.mark.parametrize("path", ["/tasks", "/tasks/batch", "/dlq/redrive"])
async def test_a_damaged_body_is_a_problem_of_its_sender(ports: Ports, path: str) -> None:
    dice = random.Random(SEED)
    statuses: Counter[int] = Counter()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports.api}", timeout=5) as http:
        for _ in range(150):
            body = damaged(dice)
            answer = await http.post(path, content=body, headers={"Content-Type": "application/json"})
            statuses[answer.status_code] += 1
            assert answer.status_code < 500, (body, answer.text)
            assert len(answer.content) < 2000, body
            if answer.status_code >= 400:
                assert answer.json()["type"].startswith("/problems/"), body
    assert statuses[400] + statuses[422] > 70, statuses


async def test_what_was_taken_is_read_back_as_it_was(ports: Ports) -> None:
    dice = random.Random(SEED)
    taken = 0
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports.api}", timeout=5) as http:
        for _ in range(200):
            body = damaged(dice)
            answer = await http.post("/tasks", content=body, headers={"Content-Type": "application/json"})
            if answer.status_code in (200, 202):
                task = (await http.get(f"/tasks/{answer.json()['id']}")).json()
                sent = json.loads(body)
                assert (task["type"], task["payload"]) == (sent["type"], sent.get("payload"))
                taken += 1
    assert taken > 5


def damaged(dice: random.Random) -> bytes:
    """One of WHOLE after up to three accidents."""
    body = bytearray(dice.choice(WHOLE))
    for _ in range(dice.randrange(4)):
        at = dice.randrange(len(body) + 1)
        match dice.randrange(4):
            case 0:
                body[at:at] = dice.choice(PIECES)
            case 1:
                del body[at : at + dice.randrange(1, 20)]
            case 2:
                body[at : at + 1] = bytes([dice.randrange(256)])
            case _:
                body[at:at] = body[: dice.randrange(1, 60)]
    return bytes(body)
