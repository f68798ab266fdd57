"""A console that is killed while people decide: what was acknowledged is there, and the chain holds."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

from fedlens.review.store import ReviewKey, Store, open_store
from reviewing import LEAD, new_case

WORKING = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from fedlens.review.contract import Actor, Choice, Decision, Role
from fedlens.review.store import ReviewKey, open_store

store = open_store(sys.argv[1], ReviewKey.load(Path(sys.argv[2])))
def work(k):
    actor = Actor(f"person {k}", Role.REVIEWER)
    while (case := store.queue.claim_next(actor)) is not None:
        record = store.decisions.decide(actor, Decision(case.number, Choice.ACCEPT))
        os.write(1, f"{record.sequence} {case.number} {record.digest}\\n".encode())  # all or nothing

with ThreadPoolExecutor(16) as pool:
    list(pool.map(work, range(16)))
"""


def test_what_was_acknowledged_before_the_kill_is_there(
    database_url: str, review_key: ReviewKey, opening: Callable[[], Store]
) -> None:
    store = opening()
    store.queue.add([new_case(number) for number in range(1000)], LEAD)
    command = [sys.executable, "-c", WORKING, database_url, str(review_key.path)]
    acknowledged = []
    for least in (100, 250):  # killed twice, the second time after taking up what the first left
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith("\n"):
                continue  # killed in the middle of saying so
            acknowledged.append(line.split())
            if len(acknowledged) == least:
                os.kill(process.pid, signal.SIGKILL)
        # whole lines that were in the pipe were printed after their answer, and so count too
        process.wait()
        assert process.returncode == -signal.SIGKILL
    again = open_store(database_url, review_key)
    assert len(acknowledged) >= 250
    for sequence, case, digest in acknowledged:
        record = again.trail.record(int(sequence))
        assert (record.digest, record.case, record.kind) == (digest, int(case), "decided")
        assert again.queue.get(int(case)).decision == int(sequence)
    assert again.verify().findings == ()
    assert again.trail.count(kind="decided") >= len(acknowledged)
    again.close()
