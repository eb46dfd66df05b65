"""What the user of each kind of process may do on the real servers, and what it may not: all else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
import requests
from amqp import Message
from amqp.exceptions import AccessRefused
from click.testing import CliRunner
from kombu import Connection
from sqlalchemy import Engine, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

import celery_config
from cli import placement, roles
from cli.servers import rabbitmq
from cli.stack import Stack
from ledger import __main__ as commands
from ledger import db, dispatches, fitness, grants, models, schema, transitions
from ledger.grants import Role
from tests import broker, life, task_types  # noqa: F401  registers the types

PROCESSES = {
    Role.API: roles.API,
    Role.WORKER: roles.WORKER,
    Role.MONITOR: roles.MONITOR,
    Role.WEBHOOKS: roles.WEBHOOKS,
}
#: Denied on a table, a database, a file, a variable, a routine; a trigger without SUPER; no such right to pass on.
DENIED = {1142, 1044, 1227, 1045, 1370, 1049, 1698, 1410, 1290, 1419}


def engine(url: str) -> Engine:
    return create_engine(url, poolclass=NullPool)


def code(as_whom: Engine, statement: str) -> int:
    """The error of a statement that is rolled back; 0 when it works."""
    try:
        with as_whom.connect() as connection:
            connection.exec_driver_sql(statement)
    except DBAPIError as error:
        return db.error_code(error)
    return 0


def allowed(as_whom: Engine, tables: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Which of the four a user may do to which table; the tables with their first columns."""
    found = {
        table: tuple(
            right
            for right, words in fitness._TRIES.items()
            if code(as_whom, words.format(table=table, column=column)) == 0
        )
        for table, column in tables.items()
    }
    return {table: rights for table, rights in found.items() if rights}


def columns(*metadata: Any) -> dict[str, str]:
    return {table.name: next(iter(table.columns)).name for each in metadata for table in each.tables.values()}


@pytest.mark.parametrize("role", PROCESSES)
def test_on_the_ledger_each_process_may_what_it_needs_and_no_more(role: Role, servers: Stack) -> None:
    as_whom = engine(servers.environment(PROCESSES[role])["LEDGER_DATABASE_URL"])
    version = schema.version_table("ledger")
    expected = grants.needed(role, "ledger")
    assert allowed(as_whom, columns(models.ledger) | {version: "version_num"}) == expected


def test_on_a_business_database_all_three_are_one_user_of_its_tables(servers: Stack) -> None:
    [url] = {
        servers.environment(role)["DATA_DATABASE_URL"] for name, role in PROCESSES.items() if name is not Role.WEBHOOKS
    }
    version = schema.version_table("business")
    tables = columns(models.business) | {"data": "id", version: "version_num"}
    assert allowed(engine(url), tables) == grants.needed(Role.TASKS, "business")


BEYOND = [
    "CREATE TABLE more (id INT)",
    "ALTER TABLE {table} ADD COLUMN more INT",
    "DROP TABLE {table}",
    "TRUNCATE TABLE {table}",
    "CREATE INDEX more ON {table} (id)",
    "CREATE DATABASE sluice_more",
    "CREATE USER more",
    "GRANT SELECT ON {table} TO sluice_worker@'127.0.0.1'",
    "SELECT user FROM mysql.user",
    "SELECT 1 FROM {table} INTO OUTFILE '/tmp/sluice-more'",
    "SET GLOBAL max_connections = 10",
    "SET GLOBAL general_log = 1",
    "CREATE PROCEDURE more() SELECT 1",
    "CREATE TRIGGER more BEFORE INSERT ON {table} FOR EACH ROW SET @more = 1",
]


@pytest.mark.parametrize("role", PROCESSES)
def test_no_process_may_do_more_on_a_database_server(role: Role, servers: Stack) -> None:
    urls = servers.environment(PROCESSES[role])
    for variable, table in (("LEDGER_DATABASE_URL", "tasks"), ("DATA_DATABASE_URL", "data")):
        as_whom = engine(urls[variable])
        answers = {words: code(as_whom, words.format(table=table)) for words in BEYOND}
        assert {words: answer for words, answer in answers.items() if answer not in DENIED} == {}
    # Nor from the one database into the other.
    other = f"SELECT 1 FROM {placement.SCHEMAS['ledger']}.api_keys"
    assert code(engine(urls["DATA_DATABASE_URL"]), other) in DENIED
    other = f"SELECT 1 FROM {placement.SCHEMAS['data']}.data"
    assert code(engine(urls["LEDGER_DATABASE_URL"]), other) in DENIED


def test_a_right_that_is_missing_is_told_with_the_grant(servers: Stack, configured: Callable[..., None]) -> None:
    configured(LEDGER_DATABASE_URL=servers.environment(roles.WORKER)["LEDGER_DATABASE_URL"])
    assert fitness.look(schema.LEDGER, Role.WORKER).faults == ()
    faults = fitness.look(schema.LEDGER, Role.API).faults
    said = "user 'sluice_worker' may not INSERT: GRANT INSERT ON `sluice_ledger`.`tasks` TO 'sluice_worker'@'...'"
    assert said in faults
    assert any("table api_keys" in each for each in faults), "nobody sees a table on which he has no right"


def test_a_worker_may_note_whom_its_claim_has_overtaken(servers: Stack, configured: Callable[..., None]) -> None:
    better, task_id = life.accept(priority="high"), life.accept(priority="low")
    dispatches.mark_dispatched([life.ticket(better)])
    life.let_pass(1)
    configured(LEDGER_DATABASE_URL=servers.environment(roles.WORKER)["LEDGER_DATABASE_URL"])
    assert transitions.claim(task_id, 1, worker=life.WORKER, lease_seconds=60, better_queues=["data.high"])
    assert life.names_of_events(task_id) == ["accepted", "claimed", "inverted"]


# --- RabbitMQ ------------------------------------------------------------------------------------------------------


@contextmanager
def channel(servers: Stack, role: roles.Role) -> Iterator[Any]:
    with Connection(servers.environment(role)["CELERY_BROKER_URL"], connect_timeout=5) as connection:
        yield connection.channel()


def publish(open_channel: Any, exchange: str, key: str) -> None:
    open_channel.confirm_select()
    open_channel.basic_publish_confirm(Message("x"), exchange=exchange, routing_key=key)


TICKETS, DOORBELL, DEAD = celery_config.TICKETS.name, celery_config.DOORBELL.name, celery_config.DEAD_LETTERS.name
ON_THE_BROKER: dict[str, Callable[[Any], Any]] = {
    "send a ticket": lambda it: publish(it, TICKETS, "data.low"),
    "ring": lambda it: publish(it, DOORBELL, "data"),
    "take a ticket": lambda it: it.basic_get("data.low"),
    "read the dead": lambda it: it.basic_get("data.dead"),
    "declare a queue of ours": lambda it: celery_config.queue("data", "low")(it).declare(),
    "declare another": lambda it: it.queue_declare("more", auto_delete=True),
    "declare another exchange": lambda it: it.exchange_declare("more", "direct", auto_delete=True),
    "empty a queue": lambda it: it.queue_purge("data.low"),
    "delete a queue": lambda it: it.queue_delete("data.low"),
    "send past the exchanges": lambda it: publish(it, "", "data.low"),
    "send to the dead": lambda it: publish(it, DEAD, "data.dead"),
    "command a worker": lambda it: publish(it, "celery.pidbox", ""),
    "count a queue": lambda it: it.queue_declare("data.low", passive=True),
}
MAKING = ("take a ticket", "empty a queue", "declare a queue of ours", "delete a queue")
MAY = {
    roles.API: {"send a ticket", "ring", "count a queue"},
    # Who may make a queue may delete it; what was in it the ledger has.
    roles.MONITOR: {"send a ticket", "ring", "read the dead", "count a queue", *MAKING, "send to the dead"},
    roles.WORKER: {*MAKING, "send to the dead", "count a queue"},
    roles.FLOWER: {"command a worker", "count a queue"},
}


@pytest.mark.parametrize("role", MAY, ids=lambda role: role.broker)
def test_on_the_broker_each_process_may_what_it_needs_and_no_more(role: roles.Role, servers: Stack) -> None:
    with broker.channel() as of_set_up:
        of_set_up.exchange_declare("celery.pidbox", "fanout", durable=False, auto_delete=False)
        celery_config.DOORBELL(of_set_up).declare()
    found = set()
    for what, act in ON_THE_BROKER.items():
        broker.declare_empty()
        with channel(servers, role) as open_channel:
            try:
                act(open_channel)
                found.add(what)
            except AccessRefused:
                continue
    broker.declare_empty()
    assert found == MAY[role]


def test_only_who_watches_sees_the_brokers_page_and_changes_nothing_there(servers: Stack) -> None:
    url = servers.environment()["RABBITMQ_URL"]
    port = url.rpartition(":")[2]
    queue = "/api/queues/sluice/data.low"
    broker.declare_empty()
    assert requests.get(f"http://127.0.0.1:{port}{queue}", timeout=5).status_code == 401
    assert requests.get(f"http://guest:guest@127.0.0.1:{port}{queue}", timeout=5).status_code == 401
    assert requests.get(url + queue, timeout=5).status_code == 200
    for method, path in (("DELETE", queue), ("DELETE", f"{queue}/contents"), ("PUT", "/api/users/more")):
        answer = requests.request(method, url + path, json={"password": "x", "tags": ""}, timeout=5)
        assert answer.status_code in (401, 403), (method, path, answer.text)
    for user in set(rabbitmq.PERMISSIONS) - {roles.WATCH}:
        password = re.search(":([^:@]+)@", rabbitmq.url(servers._site(), user))
        assert password
        login = (user, password[1])
        assert requests.get(f"http://127.0.0.1:{port}{queue}", auth=login, timeout=5).status_code == 401, user


# --- Redis ---------------------------------------------------------------------------------------------------------

IN_REDIS: dict[str, Callable[[Any], Any]] = {
    "read a result": lambda it: it.get("sluice:result:x:1"),
    "keep a result": lambda it: it.set("sluice:result:x:1", "1", ex=1),
    "count a request": lambda it: it.eval("return redis.call('incrby', KEYS[1], 1)", 1, "sluice:limits:x"),
    "ping": lambda it: it.ping(),
    "read another key": lambda it: it.get("other"),
    "write another key": lambda it: it.set("other", "1"),
    "write another key by a script": lambda it: it.eval("return redis.call('set', 'other', 1)", 0),
    "delete": lambda it: it.delete("sluice:result:x:1"),
    "list keys": lambda it: it.keys("*"),
    "flush": lambda it: it.flushall(),
    "configure": lambda it: it.config_get("*"),
    "see the users": lambda it: it.acl_list(),
    "shut it down": lambda it: it.execute_command("SHUTDOWN", "NOSAVE"),
    "stop others": lambda it: it.execute_command("CLIENT", "KILL", "TYPE", "pubsub"),
    "listen to others": lambda it: it.execute_command("SUBSCRIBE", "other"),
    "replicate": lambda it: it.execute_command("REPLICAOF", "NO", "ONE"),
}
MAY_IN_REDIS = {
    roles.API: {"read a result", "count a request", "ping"},
    roles.WORKER: {"keep a result", "ping"},
    roles.MONITOR: {"keep a result", "ping"},
}


@pytest.mark.parametrize("role", MAY_IN_REDIS, ids=lambda role: role.redis)
def test_in_redis_each_process_may_what_it_needs_and_no_more(role: roles.Role, servers: Stack) -> None:
    found = set()
    with redis.Redis.from_url(servers.environment(role)["CELERY_RESULT_BACKEND"]) as client:
        for what, act in IN_REDIS.items():
            try:
                act(client)
                found.add(what)
            except (redis.exceptions.NoPermissionError, redis.exceptions.ResponseError) as error:
                assert re.search("permission|can't run this command|can't access", str(error)), (what, error)
    assert found == MAY_IN_REDIS[role]


def test_without_a_login_redis_says_nothing(servers: Stack) -> None:
    _, _, place = servers.environment()["CELERY_RESULT_BACKEND"].rpartition("@")
    for login in ("", ":sluice@", "sluice_nobody:@"):
        with redis.Redis.from_url(f"redis://{login}{place}") as client, pytest.raises(redis.exceptions.RedisError):
            client.ping()


def test_the_grants_are_printed_for_who_administers_the_databases() -> None:
    done = CliRunner().invoke(commands.main, ["grants", "--worker", "hands@10.0.0.%", "--tasks", "rows@%"])
    assert done.exit_code == 0, done.output
    assert "GRANT SELECT, UPDATE ON `sluice_ledger`.`tasks` TO 'hands'@'10.0.0.%';" in done.output
    assert "GRANT SELECT, INSERT, DELETE ON `sluice_data`.`data` TO 'rows'@'%';" in done.output
    assert "api_keys" not in done.output
