"""Who is let in: every route by the route map, tokens, and who is served without them."""

import hmac
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from quart import Response
from werkzeug.exceptions import Forbidden, Unauthorized

from taskward.api import auth
from taskward.api.app import create_app
from taskward.api.auth import Guard, Scope, Token, bind_host, hash_of, new_token, parse_tokens
from taskward.api.render import respond
from taskward.api.routes import Route
from taskward.api.service import Service
from taskward.api.table import ROUTES
from taskward.broker.broker import Broker
from taskward.config import Config
from taskward.errors import ConfigError
from taskward.events import Lifecycle, Trouble, ignore
from tests.api.conftest import Api, Open

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SCOPES = (Scope.SUBMIT, Scope.READ, Scope.OPERATE)


def entry(token: str, *scopes: str, **more: Any) -> dict[str, Any]:
    return {"name": token, "sha256": hash_of(token), "scopes": scopes, **more}


def write(path: Path, *entries: dict[str, Any]) -> str:
    path.write_text(json.dumps({"tokens": entries}))
    return str(path)


@pytest.fixture
def tokens_file(tmp_path: Path) -> str:
    """One token a scope, called like it, and one that has expired."""
    old = entry("old", *SCOPES, expires="2020-01-01T00:00:00Z")
    return write(tmp_path / "tokens.json", *(entry(scope, scope) for scope in SCOPES), old)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def ask(api: Api, route: Route, headers: dict[str, str]) -> Any:
    path = route.path.replace("{", "").replace("}", "")
    return await api.http.request(route.method, path, headers=headers)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_every_route_asks_for_its_scope_and_no_other_helps(
    open_api: Open, tokens_file: str, route: Route
) -> None:
    async with open_api(api_tokens_file=tokens_file) as api:
        wrong = [{}, bearer("unknown"), bearer("old"), {"Authorization": "Bearer"}, {"Authorization": "Basic read"}]
        for headers in wrong:
            answer = await ask(api, route, headers)
            if route.scope is Scope.OPEN:
                assert answer.status_code == 200
                continue
            assert answer.status_code == 401
            assert answer.json()["type"] == "/problems/unauthorized"
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="taskward"'
        for scope in SCOPES:
            answer = await ask(api, route, bearer(scope))
            assert (answer.status_code == 403) == (route.scope not in (scope, Scope.OPEN))
            assert answer.status_code != 401
        assert await api.stored() == 0


async def test_every_rule_of_the_app_is_a_row_of_the_table(broker: Broker) -> None:
    app = create_app(Service.of(Config(), broker, observe=ignore))
    rules = {(rule.rule, method) for rule in app.url_map.iter_rules() for method in (rule.methods or set()) - {"HEAD"}}
    assert rules == {(route.rule, route.method) for route in ROUTES}
    assert [route.path for route in ROUTES if route.scope is Scope.OPEN] == [
        "/healthz",
        "/readyz",
        "/",
        "/console.js",
        "/console.css",
    ]


async def test_a_route_without_a_scope_is_no_route(broker: Broker) -> None:
    async def forgotten(_service: Service) -> Response:
        return respond(None)

    service = Service.of(Config(), broker, observe=ignore)
    with pytest.raises(ValueError, match="routes without a scope: /forgotten"):
        create_app(service, (Route("GET", "/forgotten", None, forgotten),))  # type: ignore[arg-type]


async def test_what_is_not_there_asks_for_a_token_first(open_api: Open, tokens_file: str) -> None:
    async with open_api(api_tokens_file=tokens_file) as api:
        for method, path in (("GET", "/nowhere"), ("OPTIONS", "/tasks"), ("TRACE", "/tasks"), ("HEAD", "/tasks")):
            assert (await api.http.request(method, path)).status_code == 401
        assert (await api.http.get("/nowhere", headers=bearer("read"))).status_code == 404


async def test_who_may_not_read_waits_for_an_end_and_not_for_a_task(open_api: Open, tokens_file: str) -> None:
    async with open_api(api_tokens_file=tokens_file) as api:
        headers = bearer("submit") | {"Prefer": "wait=0.01"}
        answer = await api.http.post("/tasks", json={"type": "t", "payload": "secret"}, headers=headers)
        assert answer.json() == {"id": answer.json()["id"], "state": "queued", "created": True}
        cancel = f"/tasks/{answer.json()['id']}/cancel?wait=0.01"
        ended = await api.http.post(cancel, headers=bearer("operate"))
        assert (ended.status_code, ended.json()) == (200, {"id": answer.json()["id"], "state": "cancelled"})


async def test_a_body_nobody_is_allowed_to_send_is_not_read(open_api: Open, tokens_file: str) -> None:
    async with open_api(api_tokens_file=tokens_file) as api:
        answer = await api.http.post("/tasks", content=b"x" * 10_000_000, headers=bearer("read"))
        assert answer.status_code == 403


async def test_the_file_is_read_again_when_it_changes(
    open_api: Open, tokens_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "LOOK_SECONDS", 0.01)
    async with open_api(api_tokens_file=tokens_file) as api:
        replace(tokens_file, json.dumps({"tokens": [entry("new", "read")]}))
        await api.events.wait_for(lambda event: event == Lifecycle("tokens reloaded", {"tokens": 1}))
        assert (await api.http.get("/tasks", headers=bearer("read"))).status_code == 401
        assert (await api.http.get("/tasks", headers=bearer("new"))).status_code == 200
        replace(tokens_file, "{}")
        await api.events.wait_for(lambda event: isinstance(event, Trouble) and event.what == "tokens not reloaded")
        assert (await api.http.get("/tasks", headers=bearer("new"))).status_code == 200


def replace(path: str, text: str) -> None:
    """As an editor does; a reader never sees half of it."""
    Path(path + ".new").write_text(text)
    Path(path + ".new").replace(path)


async def test_without_tokens_a_browser_gives_no_orders_for_another_site(api: Api) -> None:
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},
        {"Host": "evil.example:8080"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": f"http://localhost:{api.port}"},
        {"Origin": "null"},
    ):
        answer = await api.http.post("/queues/high/pause", headers=headers)
        assert answer.status_code == 403, headers
        answer = await api.http.post("/tasks", json={"type": "echo"}, headers=headers)
        assert answer.status_code == 403, headers
    assert await api.stored() == 0
    for headers in (
        {"Sec-Fetch-Site": "same-origin"},
        {"Host": "localhost"},
        {"Host": "[::1]:8080"},
        {"Origin": api.url},
        {"Origin": "http://LocalHost:80", "Host": "localhost:80"},
    ):
        assert (await api.http.get("/tasks", headers=headers)).status_code == 200, headers
        answer = await api.http.post("/tasks", json={"type": "echo", "id": "a"}, headers=headers)
        assert answer.status_code in (200, 202), headers


async def test_off_means_off(open_api: Open) -> None:
    async with open_api(api_auth="off") as api:
        assert (await api.http.get("/tasks", headers={"Host": "api:8080"})).status_code == 200


def guard(*tokens: Token) -> Guard:
    return Guard(tokens)


def admit(guard: Guard, authorization: str) -> None:
    guard.admit(Scope.READ, authorization=authorization, host="api", site="", origin="", now=NOW)


def test_a_new_token_fits_its_hash_and_expires() -> None:
    token, digest = new_token()
    assert len(token) > 40
    mine = Token(name="me", sha256=digest, scopes=frozenset({Scope.READ}), expires=datetime(2030, 1, 2, tzinfo=UTC))
    admit(guard(mine), f"Bearer {token}")
    admit(guard(mine), f"bearer   {token} ")
    with pytest.raises(Unauthorized):
        admit(guard(mine), f"Bearer {token[:-1]}")
    with pytest.raises(Unauthorized):
        guard(mine).admit(
            Scope.READ,
            authorization=f"Bearer {token}",
            host="",
            site="",
            origin="",
            now=datetime.max.replace(tzinfo=UTC),
        )
    with pytest.raises(Forbidden):
        guard(mine).admit(Scope.OPERATE, authorization=f"Bearer {token}", host="", site="", origin="", now=NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"tokens": 5}',
        '{"tokens": [{"name": "a", "sha256": "xyz", "scopes": []}]}',
        '{"tokens": [{"name": "a", "sha256": "%s\\n", "scopes": []}]}' % ("a" * 64),
        '{"tokens": [{"name": "a", "sha256": "%s", "scopes": ["admin"]}]}' % ("a" * 64),
        '{"tokens": [{"name": "a", "sha256": "%s", "scopes": [], "expires": "2030-01-01T00:00:00"}]}' % ("a" * 64),
        '{"tokens": [{"name": "a", "sha256": "%s", "scopes": [], "token": "secret"}]}' % ("a" * 64),
    ],
)
def test_a_file_that_is_not_right_stops_the_start(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="API_TOKENS_FILE"):
        parse_tokens(text.encode())
    with pytest.raises(ConfigError, match="API_TOKENS_FILE"):
        Guard.of(Config(api_tokens_file=str(tmp_path / "none.json")))


@pytest.mark.parametrize(
    ("settings", "bound"),
    [
        ({}, ("127.0.0.1", 8080)),
        ({"api_addr": "127.0.0.5:1"}, ("127.0.0.5", 1)),
        ({"api_addr": "[::1]:1"}, ("::1", 1)),
        ({"api_addr": "localhost:1"}, ("localhost", 1)),
        ({"api_auth": "off"}, ("", 8080)),
        ({"api_auth": "off", "api_addr": "0.0.0.0:1"}, ("0.0.0.0", 1)),
        ({"api_tokens_file": "x"}, ("", 8080)),
        ({"api_tokens_file": "x", "api_addr": "10.0.0.1:1"}, ("10.0.0.1", 1)),
    ],
)
def test_without_tokens_only_loopback_is_listened_on(settings: dict[str, Any], bound: tuple[str, int]) -> None:
    assert bind_host(Config(**settings)) == bound


@pytest.mark.parametrize("addr", ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "example.org:1"])
def test_another_address_without_tokens_is_one_clear_line(addr: str) -> None:
    with pytest.raises(ConfigError) as caught:
        bind_host(Config(api_addr=addr))
    assert "API_TOKENS_FILE" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_token_is_compared_with_all_even_after_it_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def watched(ours: str, theirs: str) -> bool:
        compared.append(ours)
        return ours == theirs

    monkeypatch.setattr(hmac, "compare_digest", watched)
    tokens = [Token(name=str(n), sha256=hash_of(str(n)), scopes=frozenset({Scope.READ})) for n in range(3)]
    admit(guard(*tokens), "Bearer 0")
    assert compared == [token.sha256 for token in tokens]


def test_a_token_is_in_the_file_once_and_open_is_no_scope_of_it() -> None:
    for tokens in ([entry("a", "read"), entry("a", "submit")], [entry("a", "open")]):
        with pytest.raises(ConfigError, match=r"API_TOKENS_FILE: .*a"):
            parse_tokens(json.dumps({"tokens": tokens}).encode())
