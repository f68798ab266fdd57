"""A console that is killed while people decide: what was acknowledged is there, and the chain holds."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from commands import started

from fedlens.review.contract import Actor, Choice, Decision, Role
from fedlens.review.store import ReviewKey, open_store
from reviewing import LEAD, new_case


def work(url: str, key: Path, there: int) -> None:
    """Decide cases, sixteen people at once, and write down each record that was acknowledged."""
    store = open_store(url, ReviewKey.load(key))

    def person(k: int) -> None:
        actor = Actor(f"person {k}", Role.REVIEWER)
        while (case := store.queue.claim_next(actor)) is not None:
            store.decisions.opened(actor, case.number)
            record = store.decisions.decide(actor, Decision(case.number, Choice.ACCEPT))
            line = f"{record.sequence} {case.number} {record.digest}\n"
            os.write(there, line.encode())  # all or nothing

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(person, range(16)))


def test_what_was_acknowledged_before_the_kill_is_there(
    database_url: str, review_key: ReviewKey
) -> None:
    store = open_store(database_url, review_key)
    store.queue.add([new_case(number) for number in range(1000)], LEAD)
    store.close()  # SQLite's connections are not to be had across a fork
    acknowledged = []
    for least in (100, 250):  # killed twice, the second time after taking up what the first left
        here, there = os.pipe()
        process = started(work, database_url, review_key.path, there)
        os.close(there)
        with os.fdopen(here) as said:
            for line in said:
                if not line.endswith("\n"):
                    continue  # killed in the middle of saying so
                acknowledged.append(line.split())
                if len(acknowledged) == least:
                    process.kill()
        # whole lines that were in the pipe were printed after their answer, and so count too
        process.join()
        assert process.exitcode == -signal.SIGKILL
    again = open_store(database_url, review_key)
    assert len(acknowledged) >= 250
    for sequence, case, digest in acknowledged:
        record = again.trail.record(int(sequence))
        assert (record.digest, record.case, record.kind) == (digest, int(case), "decided")
        assert again.queue.get(int(case)).decision == int(sequence)
    assert again.verify().findings == ()
    assert again.trail.count(kind="decided") >= len(acknowledged)
    again.close()
