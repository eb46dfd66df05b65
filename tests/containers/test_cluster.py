"""The cluster under load: nodes of RabbitMQ and APIs are killed and made anew, and whoever posts as the documentation
says loses nothing and is refused nothing."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from celery_config import queue_names
from cli.containers.secrets import NODES
from cli.servers import rabbitmq
from client.sluice import Sluice
from tests.conftest import Eventually, Tell
from tests.containers import engine
from tests.containers.engine import OURS
from tests.system.service import Service

ROWS = 500
LOAD = (
    ("bulk_insert", {"rows": ROWS}),
    ("data_processing", {"data": "some words"}),
    ("email_sending", {"to": "recipient@example.com", "if_uncertain": "retry"}),
    ("file_processing", {"filename": "your_file.txt"}),
)
CLIENTS = 3
#: Seconds for which a client repeats a call, and between two calls of it.
PATIENCE_SECONDS, PAUSE_SECONDS = 60, 0.3
#: The queue of most of what the clients post.
QUEUE = "data.normal"
#: Tasks that are accepted before a kill, and until what was killed is brought back.
TASKS = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[float]:
    with engine.laid_over(engine.CLUSTER), engine.up() as seconds:
        yield seconds


@pytest.fixture
def service(cluster: float) -> Service:
    return Service(engine.url(), engine.key())


# --- what there is -------------------------------------------------------------------------------------------------


def test_each_queue_has_a_member_on_each_of_three_nodes(cluster: float, tell: Tell) -> None:
    tell(f"build and start until all of the cluster is healthy: {cluster:.0f} s")
    found = queues()
    assert set(queue_names()) <= set(found)
    assert {frozenset(queue["members"]) for queue in found.values()} == {frozenset(f"rabbit@{node}" for node in NODES)}
    leaders = Counter(queue["leader"] for queue in found.values())
    tell(f"queues by the node that leads them: {dict(leaders)}")
    assert len(leaders) == len(NODES)


def test_there_are_two_of_all_that_is_ours(service: Service) -> None:
    assert {name: len(engine.ids(name)) for name in OURS} == {**dict.fromkeys(OURS, 2), "flower": 1}
    here = Counter(worker["name"].partition("@")[0] for worker in service.get("/api/workers")["items"])
    assert here == {"data": 2, "email": 2, "file": 2}


def test_only_nginx_and_the_pages_are_published_and_to_this_machine_only(cluster: float) -> None:
    published = set()
    for container in engine.compose("ps", "--quiet").split():
        [found] = json.loads(engine.docker("inspect", container))
        bindings = [each for bound in found["NetworkSettings"]["Ports"].values() for each in bound or ()]
        assert all(each["HostIp"] == "127.0.0.1" for each in bindings)
        published |= {found["Config"]["Labels"]["com.docker.compose.service"]} if bindings else set()
    assert published == {"nginx", "flower", "rabbitmq", "mail"}


@pytest.mark.parametrize("name", ["nginx", *NODES])
def test_nobody_is_root_or_may_become_it(cluster: float, name: str) -> None:
    lines = inside(name, "cat", "/proc/1/status").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert "0" not in status["Uid"].split()
    assert {int(status[each], 16) for each in ("CapPrm", "CapEff", "CapBnd")} == {0}
    assert status["NoNewPrivs"] == "1"


def test_no_cookie_is_in_a_variable_an_argument_or_a_log(cluster: float) -> None:
    cookie = inside("rabbitmq-2", "cat", "/run/secrets/rabbitmq_cookie").strip()
    assert cookie
    for node in NODES:
        assert cookie not in json.dumps(engine.inspect(node)) + engine.compose("logs", "--no-color", node), node


# --- the way through nginx -----------------------------------------------------------------------------------------


def test_both_apis_are_asked_and_a_request_has_one_id_in_every_log(service: Service, eventually: Eventually) -> None:
    for number in range(20):
        answer = service.ask("GET", "/livez", headers={"X-Request-ID": f"asked-{number}"})
        assert answer.headers["X-Request-ID"] == f"asked-{number}"
    named = service.ask("GET", "/livez").headers["X-Request-ID"]

    def lines() -> list[dict[str, str]]:
        logged = engine.compose("logs", "--no-color", "--no-log-prefix", "nginx").splitlines()
        found = [json.loads(line) for line in logged if line.startswith('{"time"')]
        asked = [line for line in found if line["request_id"] in {named, *(f"asked-{each}" for each in range(20))}]
        return asked if len(asked) == 21 else []

    found = eventually(lines, within=20, every=0.5, what="a line for each request")
    assert isinstance(found, list)
    assert len({line["api"] for line in found}) == 2


def test_events_come_as_they_happen(service: Service) -> None:
    """A proxy that keeps them back would hand them over together, at the end."""
    task_id = service.post("data_processing", {"data": "later"}, delay=3)
    came: dict[str, float] = {}
    with service.ask("GET", f"/api/tasks/{task_id}/events", stream=True, timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith(b"event: "):
                came.setdefault(line[7:].decode(), time.monotonic())
    assert came["task.succeeded"] - came["task.scheduled"] > 1.5


def test_a_wait_is_answered_when_the_task_ends(service: Service) -> None:
    task_id = service.post("data_processing", {"data": "later"}, delay=2)
    answer = service.ask("GET", f"/api/tasks/{task_id}?wait=30", timeout=45)
    assert answer.json()["state"] == "succeeded"


def test_a_large_upload_passes_and_a_body_that_is_too_large_is_told_so(service: Service) -> None:
    data = random.Random(7).randbytes(24 << 20)
    kept = service.ask("POST", "/api/files", files={"file": ("large.bin", data)}, timeout=120)
    assert kept.status_code == 201, kept.text
    too_long = service.ask("POST", "/api/tasks", data=b"[" + b" " * (3 << 20) + b"]", headers=JSON)
    assert (too_long.status_code, too_long.headers["Content-Type"]) == (413, "application/problem+json")
    assert too_long.json()["request_id"] == too_long.headers["X-Request-ID"]


JSON = {"Content-Type": "application/json"}

def test_reads_are_answered_though_an_api_is_gone_that_nginx_still_knows(service: Service, tell: Tell) -> None:
    """Some of them go to it, and Docker's name server forgets its address while they wait there."""
    for gone in engine.ids("api"):
        engine.kill(gone)
        began = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as many:
            answers = [*many.map(lambda _: service.ask("GET", "/livez", timeout=60).status_code, range(AT_ONCE))]
        tell(f"{AT_ONCE} reads just after an API was gone were answered within {time.monotonic() - began:.1f} s")
        engine.compose("up", "--detach", "--no-deps", "--wait", "--wait-timeout", "120", "api")
        assert Counter(answers) == {200: AT_ONCE}


AT_ONCE = 12

# --- kills ---------------------------------------------------------------------------------------------------------


@dataclass
class Clients:
    """Who posts all the while with keys for repetition, and who reads without ever asking twice."""

    service: Service
    tag: str
    accepted: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    longest: dict[str, float] = field(default_factory=lambda: {"post": 0.0, "read": 0.0})
    reads: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def post(self, number: int) -> None:
        client = Sluice(self.service.url, engine.key(), patience=PATIENCE_SECONDS)
        while not self.over.wait(PAUSE_SECONDS):
            number += 1
            kind, parameters = LOAD[number % len(LOAD)]
            began = time.monotonic()
            try:
                answer = client.submit(kind, parameters, max_retries=10, tags=[self.tag])
                self.accepted[answer["task_id"]] = kind
            except Exception as error:  # noqa: BLE001  whatever it is, it is told
                self.failed.append(repr(error))
            self.longest["post"] = max(self.longest["post"], time.monotonic() - began)

    def read(self) -> None:
        """Each request on a connection of its own, and never a second time."""
        while not self.over.wait(0.1):
            if not self.accepted:
                continue
            task_id = random.choice([*self.accepted])
            began = time.monotonic()
            try:
                answer = self.service.ask("GET", f"/api/tasks/{task_id}", timeout=60)
                self.refused += [answer.text] if answer.status_code != 200 else []
            except requests.RequestException as error:
                self.refused.append(repr(error))
            self.reads += 1
            self.longest["read"] = max(self.longest["read"], time.monotonic() - began)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.post, args=(number,)) for number in range(CLIENTS)]
        threads.append(threading.Thread(target=self.read))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join()

    def let(self, number: int, eventually: Eventually) -> None:
        """So many more are accepted."""
        until = len(self.accepted) + number
        eventually(lambda: len(self.accepted) >= until, within=180, every=0.2, what=f"{number} more accepted")

    def all_is_done(self, eventually: Eventually) -> None:
        """Each post was accepted, once, and done."""
        assert not self.failed
        client = Sluice(self.service.url, engine.key(), patience=PATIENCE_SECONDS)

        def states() -> Counter[str] | None:
            found = {task["task_id"]: task["state"] for task in client.tasks(tag=[self.tag])}
            assert set(found) == set(self.accepted), "lost, or there twice"
            counts = Counter(map(str, found.values()))
            return counts if set(counts) <= {"succeeded", "failed", "revoked", "expired"} else None

        counts = eventually(states, within=400, every=2, what="the end of all that was accepted")
        assert counts == {"succeeded": len(self.accepted)}

    def told(self) -> str:
        return (
            f"{len(self.accepted)} accepted, {len(self.failed)} failed, "
            f"{self.reads} reads, {len(self.refused)} refused; longest post took "
            f"{self.longest['post']:.1f} s, the longest read {self.longest['read']:.1f} s"
        )


@pytest.mark.timeout(1500)
def test_nothing_is_lost_or_refused_though_nodes_and_apis_are_killed(
    service: Service, eventually: Eventually, tell: Tell
) -> None:
    before, clients = rows(service), Clients(service, "kills")
    with clients.at_work():
        # To the first node everybody is connected; then the one goes that the queue has chosen instead, and more.
        for number, others in enumerate((["api"], ["api", "data", "monitor"])):
            clients.let(TASKS, eventually)
            node = leader_of(QUEUE) if number else NODES[0]
            led = [name for name, queue in queues().items() if queue["leader"] == f"rabbit@{node}"]
            for killed in [engine.ids(node)[0], *(engine.ids(other)[number] for other in others)]:
                engine.kill(killed)
            gap = seconds_for_one(service)
            clients.let(TASKS, eventually)
            assert leader_of(QUEUE, but=node)
            began = time.monotonic()
            engine.compose("up", "--detach", "--wait", "--wait-timeout", "400")
            eventually(is_whole, within=120, every=2, what="every member of every queue")
            seconds = time.monotonic() - began
            tell(f"{node} killed, which led {', '.join(led)}, and of two each of {', '.join(others)} one:")
            tell(f"what was posted then was done after {gap:.1f} s; all of it whole {seconds:.0f} s after `up`")
    clients.all_is_done(eventually)
    tell(clients.told())
    assert not clients.refused, "a request that is safe to repeat was not"
    assert rows(service) == before + ROWS * Counter(clients.accepted.values())["bulk_insert"]
    assert "✗" not in engine.ledger("verify")
    assert "✗" not in engine.ledger("reconcile")


@pytest.mark.timeout(1500)
def test_a_new_version_comes_in_while_requests_go_on(
    service: Service, eventually: Eventually, tell: Tell, tmp_path: Path
) -> None:
    """By the lines of the how-to."""
    clients, old = Clients(service, "rolling"), everything()
    with clients.at_work():
        clients.let(TASKS // 2, eventually)
        engine.docker("build", "--label", "sluice.version=next", "--tag", "sluice", ".")
        with engine.laid_over(str(new_nodes(tmp_path))):
            for line in engine.told("Start it anew"):
                began = time.monotonic()
                engine.shell(line)
                tell(f"{time.monotonic() - began:.0f} s: {line}")
        clients.let(TASKS // 2, eventually)
    assert not old & {*everything()}, "left as it was"
    assert len(engine.ids("api")) == 2
    eventually(is_whole, within=120, every=2, what="every member of every queue")
    clients.all_is_done(eventually)
    tell(clients.told())
    assert not clients.refused
    assert "✗" not in engine.ledger("verify")


def rows(service: Service) -> int:
    return int(service.get("/get_data/count")["count"])


def seconds_for_one(service: Service) -> float:
    """How long a task takes that is posted now, until its client knows of its success."""
    client, began = Sluice(service.url, engine.key(), patience=PATIENCE_SECONDS), time.monotonic()
    task = client.wait(client.submit("data_processing", {"data": "now"})["task_id"], seconds=120)
    assert task["state"] == "succeeded"
    return time.monotonic() - began


def everything() -> set[str]:
    """The containers that a new version concerns."""
    return {container for name in (*OURS, *NODES) for container in engine.ids(name)}


def new_nodes(folder: Path) -> Path:
    """A further file, for which Docker Compose makes the nodes anew."""
    file = folder / "new.yml"
    file.write_text(json.dumps({"services": {node: {"labels": {"sluice.version": "next"}} for node in NODES}}))
    return file


def inside(name: str, *command: str) -> str:
    return engine.compose("exec", "--no-TTY", name, *command)


def queues(*, but: str = "") -> dict[str, dict[str, Any]]:
    """The quorum queues by name, as a node tells that is not this one."""
    asked = next(node for node in NODES if node != but and engine.inspect(node)["State"]["Running"])
    columns = ("name", "type", "leader", "members", "online")
    listed = inside(
        asked, "rabbitmqctl", "--quiet", "list_queues", "--vhost", rabbitmq.VHOST, "--formatter", "json", *columns
    )
    return {queue["name"]: queue for queue in json.loads(listed) if queue["type"] == "quorum"}


def leader_of(queue: str, *, but: str = "") -> str:
    """The node that leads it; none while it is still the one that is gone."""
    node = str(queues(but=but)[queue]["leader"]).partition("@")[2]
    return node if node != but else ""


def is_whole() -> bool:
    """Only then may another node go."""
    return all(len(queue["online"]) == len(NODES) for queue in queues().values())


# --- at last, since it keeps this machine's address out for a minute --------------------------------------------------

#: Wrong keys, more than all processes of both APIs let through for one address.
GUESSES = 400


def test_wrong_keys_are_counted_for_whoever_shows_them(service: Service) -> None:
    """nginx says where a request comes from, and what a client says of himself counts for nothing."""
    told = [
        requests.get(
            f"{service.url}/api/tasks",
            headers={"X-API-Key": f"sluice_{number:08x}_{'x' * 43}", "X-Forwarded-For": f"192.0.2.{number % 250}"},
            timeout=20,
        ).status_code
        for number in range(GUESSES)
    ]
    assert set(told[:20]) == {401}
    assert told[-1] == 429
    inner = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]
    wrong = ["--header", f"X-API-Key: sluice_{GUESSES:08x}_{'x' * 43}", "http://127.0.0.1:8080/api/tasks"]
    assert inside("nginx", *inner, *wrong) == "401", "somebody else is kept out too"
