"""Sets many clients on a studio and says how each fared, and what memory the studio had before and after.

    python tools/soak.py [--clients 200] [--seconds 60] [--model glyph]

Each client asks for the smallest job (the digit 3 in two steps), listens until it is answered, and asks again. Answered is
whoever gets a picture or a sentence; told to wait, whoever is told a place in the queue or that it is full. Exit code 1 where
a client is neither, or the studio's memory ends more than 100 MB above what it was after the first job.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import httpx

MORE = 100.0
"""MB that the studio may have gained."""
BOX = "Which digits"


def resident(process: int) -> float:
    """MB of main memory that ``process`` holds (Linux)."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def job(url: str) -> dict:
    """What the page sends when Draw is pressed in the tab of the digits."""
    with urllib.request.urlopen(f"{url}/config") as answer:
        config = json.load(answer)
    parts = {part["id"]: part["props"] for part in config["components"]}
    of = next(d for d in config["dependencies"] if BOX in [parts[i].get("label") for i in d["inputs"]])
    small = {BOX: "3", "Steps (of DPM-Solver++)": 2}
    data = [small.get(parts[i].get("label"), parts[i].get("value")) for i in of["inputs"]]
    return {"data": data, "fn_index": of["id"], "trigger_id": of["targets"][0][0]}


async def visit(client: httpx.AsyncClient, asked: dict, session: str, fared: Counter, due: float) -> None:
    """Ask and listen until time is up; one count in ``fared`` each time."""
    while time.monotonic() < due:
        fared[await once(client, asked | {"session_hash": session})] += 1


async def once(client: httpx.AsyncClient, asked: dict) -> str:
    """How one job fared."""
    waits = "left without an answer"
    try:
        joined = await client.post("/gradio_api/queue/join", json=asked)
        if joined.status_code == 503:
            await asyncio.sleep(1)
            return "told that the queue is full"
        if joined.status_code != 200:
            return f"refused with {joined.status_code}"
        async with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": asked["session_hash"]}) as heard:
            async for line in heard.aiter_lines():
                said = json.loads(line[5:]) if line.startswith("data:") else {}
                if said.get("msg") == "estimation":
                    waits = "told a place in the queue"
                if said.get("msg") == "process_completed":
                    return "given a picture" if said["success"] else "told what is wrong"
    except httpx.HTTPError as error:
        return waits if waits.startswith("told") else f"cut off ({type(error).__name__})"
    return waits


async def soak(url: str, clients: int, seconds: float) -> tuple[Counter, list[Counter]]:
    """All jobs, and those of each client."""
    asked, due = job(url), time.monotonic() + seconds
    # A connection that lies idle is given up before the server does so, or both would do it at once: a browser asks again.
    limits = httpx.Limits(max_connections=None, keepalive_expiry=2)
    async with httpx.AsyncClient(base_url=url, timeout=seconds + 60, limits=limits, trust_env=False) as client:
        await once(client, asked | {"session_hash": "first"})
        yielded = [Counter() for _ in range(clients)]
        tasks = [visit(client, asked, f"client-{k}", fared, due) for k, fared in enumerate(yielded)]
        await asyncio.gather(*tasks)
    return sum(yielded, Counter()), yielded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--model", default="glyph")
    options = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    serve = [sys.executable, "-m", "phosphene", "serve", "--port", str(port), "--model", options.model, "--device", "cpu"]
    serving = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
    try:
        if "studio is at" not in serving.stdout.readline():
            raise SystemExit("phosphene serve ended; its message is above")
        asyncio.run(soak(url, 1, 0))
        before = resident(serving.pid)
        fared, each = asyncio.run(soak(url, options.clients, options.seconds))
        after = resident(serving.pid)
    finally:
        serving.terminate()
        serving.wait()
    print(f"{options.clients} clients, {options.seconds:g} s: " + ", ".join(f"{n} {how}" for how, n in fared.most_common()))
    print(f"memory {before:.0f} MB after the first job, {after:.0f} MB at the end; the studio ended with {serving.returncode}")
    good = all(how.startswith(("told", "given")) for how in fared) and all(each)
    sys.exit(0 if good and after - before < MORE and serving.returncode == 0 else 1)


if __name__ == "__main__":
    main()
