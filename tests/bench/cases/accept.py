"""How many tasks a second a door takes, how long a client waits for its 202, and what that costs."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.bench import posting
from tests.bench.bench import Bench
from tests.bench.contenders import Contender
from tests.bench.cpu import Meter
from tests.bench.limits import accept_limit
from tests.bench.results import Figure

MANY, ONE, IN_A_POST = "accept, 32 connections", "accept, one connection", "accept, 100 tasks in a post"
#: At full load the wait says how many wait, and not how long a door takes: 32 clients wait for 32 posts.
PAUSING = "wait for a 202, 32 connections that pause 200 ms"
#: Beside what each case is compared with.
REFERENCES = {MANY: "Celery", PAUSING: "Celery", ONE: "Celery", IN_A_POST: "Celery, one in a post"}
BATCH, PAUSE_MS = 100, 200


def measure(bench: Bench) -> Iterator[Figure]:
    for contender in bench.contenders:
        bench.say(f"accept: {contender.name}")
        contender.forget()
        with contender.door():
            posting.post(contender.url, contender.body, key=contender.key, connections=8, seconds=1)
            many = _posts(bench, contender, MANY, connections=32, seconds=bench.of(6, least=2))
            yield many
            if contender.name == "Celery":
                yield Figure(IN_A_POST, REFERENCES[IN_A_POST], many.value, many.unit)
            yield _posts(bench, contender, ONE, connections=1, seconds=bench.of(3))
            yield _waits(bench, contender)
    yield from _batches(bench)


def _posts(bench: Bench, contender: Contender, case: str, *, connections: int, seconds: int) -> Figure:
    meter = Meter(bench.ground.pids() | contender.pids())
    load = posting.post(
        contender.url, contender.body, key=contender.key, connections=connections, seconds=seconds
    )
    cpu = {name: used / load.requests * 1e6 for name, used in meter.used().items()}
    return Figure(
        case,
        contender.name,
        load.requests / load.seconds,
        "tasks/s",
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        cpu_us=cpu,
    )


def _waits(bench: Bench, contender: Contender) -> Figure:
    load = posting.post(
        contender.url,
        contender.body,
        key=contender.key,
        connections=32,
        seconds=bench.of(6, least=2),
        pause_ms=PAUSE_MS,
    )
    return Figure(PAUSING, contender.name, load.p50_ms, "ms", False, p50_ms=load.p50_ms, p99_ms=load.p99_ms)


def _batches(bench: Bench) -> Iterator[Figure]:
    """Only ours takes many in a post. Beside it what its database and its broker can take at all."""
    bench.say("accept: batches")
    sluice = bench.sluice
    sluice.forget()
    body = json.dumps({"tasks": [json.loads(sluice.body)] * BATCH})
    with sluice.door():
        posting.post(f"{sluice.url}/batch", body, key=sluice.key, connections=4, seconds=1)
        meter = Meter(bench.ground.pids() | sluice.pids())
        load = posting.post(
            f"{sluice.url}/batch", body, key=sluice.key, connections=4, seconds=bench.of(6, least=2)
        )
        number = load.requests * BATCH
        cpu = {name: used / number * 1e6 for name, used in meter.used().items()}
        rate = number / load.seconds
        yield Figure(IN_A_POST, sluice.name, rate, "tasks/s", p50_ms=load.p50_ms, p99_ms=load.p99_ms, cpu_us=cpu)
    sluice.forget()
    yield Figure(IN_A_POST, "rows and tickets alone", accept_limit(bench, BATCH), "tasks/s")
