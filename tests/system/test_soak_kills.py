"""Every process of the service and its servers is killed at random under a steady load, and nothing is lost."""

from __future__ import annotations

import random
import time

from cli.stack import Stack
from tests.conftest import Tell
from tests.system import effects, soak
from tests.system.books import Books
from tests.system.conftest import SECOND_DATA_WORKER, Scale
from tests.system.processes import present
from tests.system.service import Service

WORKERS = ("data", SECOND_DATA_WORKER, "email", "file")
#: Who is killed more often than the others: these are at work.
FAVOURITES = ("child",) * 8 + ("worker",) * 4


def test_nothing_is_lost_or_done_twice_while_everything_is_killed_at_random(
    service: Service,
    stack: Stack,
    books: Books,
    scale: Scale,
    chance: random.Random,
    tell: Tell,
) -> None:
    number, kills, hits = scale.of(300, 10_000), scale.of(15, 320), scale.of(1, 50)
    soak.upload(service)
    clients = soak.Clients(service, soak.bodies(number, chance))
    killer = soak.Killer(stack, clients, books, chance, workers=WORKERS)
    with present(stack, SECOND_DATA_WORKER), clients.posting():
        for victim in killer.plan(kills, favourites=FAVOURITES):
            clients.let(number // kills)
            killer.kill(victim)
    began = time.monotonic()
    everything = books.everybody()
    books.all_succeeded(everything, within=scale.of(90, 600))

    deaths = soak.deaths_by_victim(books, killer.kills)
    copies = effects.mails(stack, everything)
    tell(f"{soak.told(killer.kills, deaths)}\n  {len(clients.accepted)} accepted, {len(everything)} rows")
    tell(f"posts that were tried again: {dict(clients.refused)}")
    tell(f"all over {time.monotonic() - began:.0f} s after the last kill")
    tell(f"{len(copies)} mails, of which {sum(number > 1 for number in copies.values())} came more than once")
    assert not set(clients.accepted) - everything, "accepted, and not there"
    assert len(killer.kills) >= kills and sum(deaths.values()) >= hits, soak.told(killer.kills, deaths)
    books.at_rest()
    effects.are_right(stack, books)
