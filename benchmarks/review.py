"""The reviewer's console over HTTP: one explained prediction, eight clients at once, a full store.

    FEDLENS_DATA=... python benchmarks/review.py RUN [--seconds 60] [--decisions 100000] [--out FILE]

``RUN`` is a finished run. The console is started by its own command in a process of its own, on a copy
of the store that is thrown away; the clients are threads of this process, on the same cores.

- ``latency``: one client sends one image after another to ``POST /v1/explain`` (Grad-CAM); each answer
  leaves its record in the trail.
- ``bare``: the model's own unbatched rate: ``fedlens.explain`` on one image after another, nothing else
  running: in one process on one thread; in one process that has all the cores (the machine and the
  model as the server has them: what ``load`` is measured against); and in a process a core, added up,
  which no single model does and is told for comparison.
- ``load``: eight clients at once, each with a token of its own (a token may send 500 images a second),
  for so many seconds.
- ``store``: with so many decisions in the store, each with the records that the console leaves of
  one (opened, shown without and with its maps, decided), the pages of the queue, of insight and of a
  case as a signed-in lead gets them, and ``fedlens review verify`` from start to end.
  ``case_page_first_view_ms`` is the first view of one case after another, for each of which maps and
  badges are worked out and put on record; ``case_page_ms`` is one case again and again, whose maps
  are kept.
"""

import argparse
import http.client
import io
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from results import report, start_on_one_thread

from fedlens import explain, load_run
from fedlens.cli.review.app import account
from fedlens.cli.review.reviewed import subject_of
from fedlens.experiment.reporting import report_content
from fedlens.review.contract import Actor, Case, Choice, Decision, NewCase, Reason, Role
from fedlens.review.model import Examiner, image_digest
from fedlens.review.store import ReviewKey, open_store
from fedlens.review.web.pages.asked import asked_of
from fedlens.review.web.showing import displayed

COMMAND = [sys.executable, "-c", "from fedlens.cli import main; main()", "review"]
PORT = 8731
CLIENTS = 8
VIEWS = 33  # of each page, of which the first three do not count
SHOWN = 32  # real images whose maps and evidence the records of the full store have, in turn
TARGETS = {
    "latency_median_ms": "under 40",
    "latency_p95_ms": "under 120",
    "load_errors": "0",
    "load_over_bare_one_process": "at least 0.5",
    "queue_page_ms": "under 150",
    "case_page_first_view_ms": "under 150",
    "case_page_ms": "under 150",
    "verify_seconds": "under 20",
}


def pictures(images: torch.Tensor) -> list[bytes]:
    """Return ``images`` uint8 (N, C, H, W) as PNG files."""
    files = []
    for image in images:
        pixels = image[0].numpy() if len(image) == 1 else np.moveaxis(image.numpy(), 0, -1)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        files.append(buffer.getvalue())
    return files


class Client:
    """A program that asks the console over one connection that it keeps."""

    def __init__(self, token: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        self.headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "multipart/form-data; boundary=frontier",
        }

    def explain(self, picture: bytes) -> int:
        """Send a picture, read the whole answer, and return its status."""
        head = (
            b'--frontier\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
            b"Content-Type: image/png\r\n\r\n"
        )
        body = head + picture + b"\r\n--frontier--\r\n"
        self.connection.request("POST", "/v1/explain", body, self.headers)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status


def latency(token: str, files: list[bytes], count: int) -> dict[str, float]:
    client = Client(token)
    times = []
    for number in range(count + 20):
        begin = time.perf_counter()
        status = client.explain(files[number % len(files)])
        times.append(1000 * (time.perf_counter() - begin))
        if status != 200:
            sys.exit(f"The console answered {status}.")
    times = sorted(times[20:])
    return {
        "latency_median_ms": round(statistics.median(times), 2),
        "latency_p95_ms": round(times[int(0.95 * len(times))], 2),
    }


def load(tokens: list[str], files: list[bytes], seconds: float) -> dict[str, Any]:
    end = time.perf_counter() + seconds
    statuses: list[int] = []
    times: list[float] = []

    def work(token: str, first: int) -> None:
        client, number = Client(token), first
        while time.perf_counter() < end:
            begin = time.perf_counter()
            statuses.append(client.explain(files[number % len(files)]))
            times.append(1000 * (time.perf_counter() - begin))
            number += 1

    threads = [
        threading.Thread(target=work, args=(token, 100 * n)) for n, token in enumerate(tokens)
    ]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - begin
    return {
        "load_clients": len(tokens),
        "load_seconds": round(taken, 1),
        "load_answers": len(statuses),
        "load_errors": sum(status != 200 for status in statuses),
        "load_per_second": round(len(statuses) / taken, 1),
        "load_median_ms": round(statistics.median(times), 1),
        "load_p95_ms": round(sorted(times)[int(0.95 * len(times))], 1),
    }


def bare(run: Path, seconds: float, threads: int) -> float:
    """Return how many images a second ``explain`` does one by one, in this process."""
    start_on_one_thread()
    torch.set_num_threads(threads)
    opened = load_run(run)
    opened = opened.parts[0] if opened.parts else opened
    model, images = opened.model, opened.dataset.test.images[:200]
    for image in images[:20]:
        explain(model, image[None])
    done, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        explain(model, images[done % 200][None])
        done += 1
    return done / (time.perf_counter() - begin)


def bare_rates(run: Path, seconds: float) -> dict[str, float]:
    """Return the rate of one thread, of one process on all cores, and of a process a core."""

    def together(count: int, threads: int) -> float:
        command = [sys.executable, __file__, str(run), "--bare", str(seconds)]
        command += ["--threads", str(threads)]
        workers = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)
        ]
        return sum(float(worker.communicate()[0]) for worker in workers)

    cores = os.cpu_count() or 1
    return {
        "bare_per_second_one_thread": round(together(1, 1), 1),
        "bare_per_second_one_process": round(together(1, cores), 1),
        "bare_per_second_process_a_core": round(together(cores, 1), 1),
        "cores": cores,
    }


@contextmanager
def console(run: Path, url: str) -> Iterator[str]:
    """Serve the console of ``run``; yield the path of a link that signs its lead in once."""
    command = [*COMMAND, "serve", str(run), "--port", str(PORT), "--database", url]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        link = None
        while link is None and (line := process.stdout.readline()):
            link = re.search(r"/link/\S+", line)
        for _ in range(200):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                time.sleep(0.1)
        else:
            sys.exit("The console did not start.")
        yield link[0] if link else ""
    finally:
        process.terminate()
        process.wait()


def shown_of(
    run: Path, images: torch.Tensor, case: Case
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return what the console puts on record of some images: what it shows, and what the model says."""
    opened = load_run(run)
    subject = subject_of(opened, report_content(opened, explained=False))
    found = []
    with Examiner(subject) as examiner:
        asked = asked_of({}, examiner.methods, case.predicted, len(subject.class_names))
        for image in images:
            first = examiner.explain(image, asked.method, badges=True, beside=asked.second)
            maps = [first, examiner.explain(image, asked.second)]
            found.append((displayed(case, asked, maps), dict(examiner.evidence(first))))
    return found


def fill(run: Path, url: str, count: int, images: torch.Tensor, classes: int) -> float:
    """Put ``count`` decided cases, and one open one for each of ``images``, into a store.

    Every decision is one that a person would make, and leaves what the console leaves of one; what was
    shown is that of some real images, in turn. The first open cases are in the hands of whoever runs
    this, for as long as it takes.

    Returns:
        The seconds that the deciding took, from the first case that was claimed.
    """
    random = np.random.default_rng(0)
    store = open_store(url, ReviewKey.load())
    lead = Actor("filler", Role.LEAD)
    probabilities = random.dirichlet(np.full(classes, 0.3), count + len(images))
    digests = [f"{number:064x}" for number in range(count)] + [image_digest(one) for one in images]
    sources = [f"folder/{number}.png" for number in range(count)]
    sources += [f"test/{number}" for number in range(len(images))]
    new = [
        NewCase(
            digest=digests[number],
            source=sources[number],
            predicted=int(row.argmax()),
            probabilities=tuple(float(value) for value in row / row.sum()),
            need=float(1 - row.max()),
            signals={"uncertainty": float(1 - row.max()), "novelty": float(random.random())},
        )
        for number, row in enumerate(probabilities)
    ]
    numbers = store.queue.add(new, lead)
    shown = shown_of(run, images[:SHOWN], store.queue.get(numbers[0]))
    reviewers = [Actor(f"reviewer {n}", Role.REVIEWER) for n in range(32)]

    def decide(part: int) -> None:
        me = reviewers[part]
        for position in range(part, count, len(reviewers)):
            number = numbers[position]
            store.queue.claim(me, number)
            maps, said = shown[position % len(shown)]
            evidence = {**said, "image": digests[position], "predicted": new[position].predicted}
            store.decisions.opened(me, number)
            for opacity in (0.0, 0.9):  # the maps wait until they are wanted
                store.decisions.reveal(me, number, {**maps, "opacity": opacity}, evidence)
            override = position % 7 == 0
            other = (new[position].predicted + 1) % classes
            store.decisions.decide(
                me,
                Decision(
                    number,
                    Choice.OVERRIDE if override else Choice.ACCEPT,
                    label=other if override else None,
                    reason=Reason.CONFUSABLE if override else None,
                    displayed={**maps, "opacity": 0.9},
                    evidence=evidence,
                ),
            )

    begin = time.perf_counter()
    with ThreadPoolExecutor(len(reviewers)) as pool:
        list(pool.map(decide, range(len(reviewers))))
    taken = time.perf_counter() - begin
    for number in numbers[count : count + 1 + VIEWS]:
        store.queue.assign(lead, number, account())
    store.close()
    return taken


def pages(link: str, case: int) -> dict[str, float]:
    """Return medians and 95th percentiles of the pages, each over 30 views, in milliseconds.

    Args:
        link: that signs in.
        case: the first of the open cases.
    """
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)

    def get(path: str, cookie: str = "") -> tuple[http.client.HTTPResponse, bytes]:
        connection.request("GET", path, headers={"Cookie": cookie, "Sec-Fetch-Site": "none"})
        answer = connection.getresponse()
        return answer, answer.read()

    answer, _ = get(link)
    cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
    found = {}
    cases = [f"/cases/{case + 1 + view}" for view in range(VIEWS)]
    asked = (
        ("queue_page_ms", ["/"] * VIEWS, b"Queue"),
        ("case_page_first_view_ms", cases, b"map.png"),
        ("case_page_ms", [f"/cases/{case}"] * VIEWS, b"map.png"),
        ("insight_page_ms", ["/insight"] * VIEWS, b"overridden"),
    )
    for name, paths, holds in asked:
        times = []
        for path in paths:
            begin = time.perf_counter()
            answer, page = get(path, cookie)
            times.append(1000 * (time.perf_counter() - begin))
            if answer.status != 200 or holds not in page:
                sys.exit(f"{path} answered {answer.status}, without {holds!r}.")
        found[name] = round(statistics.median(times[3:]), 1)
        found[name.replace("_ms", "_p95_ms")] = round(sorted(times[3:])[28], 1)
    return found


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return round(time.perf_counter() - begin, 1)


def full_store(
    run: Path, folder: Path, decisions: int, images: torch.Tensor, classes: int
) -> dict[str, Any]:
    """Measure a store of ``decisions``; one that an earlier run left in ``folder`` is used again."""
    file, taken = folder / f"full-{decisions}.sqlite", folder / f"full-{decisions}.seconds"
    url = f"sqlite:///{file}"
    if not taken.exists():
        file.unlink(missing_ok=True)
        taken.write_text(str(fill(run, url, decisions, images, classes)))
    with console(run, url) as link:
        found = pages(link, decisions + 1)
    verify = [*COMMAND, "verify", url]
    seconds = timed(lambda: subprocess.run(verify, check=True, stdout=subprocess.DEVNULL))
    return {
        "decisions": decisions,
        "decisions_per_second": round(decisions / float(taken.read_text()), 1),
        **found,
        "verify_seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--decisions", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="folder in which the full store is kept")
    parser.add_argument("--only-store", action="store_true", help="measure the full store alone")
    parser.add_argument("--bare", type=float, help="only this process's bare rate, for so long")
    parser.add_argument("--threads", type=int, default=1, help="threads of --bare")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    if chosen.bare:
        print(bare(chosen.run, chosen.bare, chosen.threads))
        return
    opened = load_run(chosen.run)
    images = (opened.parts[0] if opened.parts else opened).dataset.test.images
    files = pictures(images[:1000])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(chosen.keep or temporary)
        folder.mkdir(exist_ok=True)
        os.environ["FEDLENS_REVIEW_KEY"] = f"{folder}/review.key"
        url = f"sqlite:///{temporary}/review.sqlite"
        tokens = []
        for number in range(CLIENTS):
            adding = [*COMMAND, "token", "add", url, f"client-{number}"]
            added = subprocess.run(adding, check=True, capture_output=True, text=True)
            tokens.append(added.stdout.strip())
        result: dict[str, Any] = {}
        if not chosen.only_store:
            result |= bare_rates(chosen.run, 15)
            with console(chosen.run, url):
                result |= latency(tokens[0], files, chosen.requests)
                result |= load(tokens, files, chosen.seconds)
            for kind in ("one_thread", "one_process", "process_a_core"):
                rate = result[f"bare_per_second_{kind}"]
                result[f"load_over_bare_{kind}"] = round(result["load_per_second"] / rate, 2)
        if chosen.decisions:
            result |= full_store(
                chosen.run, folder, chosen.decisions, images[:1000], len(opened.class_names)
            )
    report("review", result, TARGETS, chosen.json, chosen.out)


if __name__ == "__main__":
    main()
