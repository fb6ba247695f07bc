"""A process of attackers or of the other clients, told what to do by the test that started it.

Apart from the test, so that neither waits for the other's interpreter; `side.py` is the test's end. It says
`ready`, then takes one command a line and gives one line of JSON for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import ssl
import sys
from collections import Counter
from typing import Any

from harness.hostile.attacks import ATTACKS, Attacker
from harness.load import Load

# An attacker whose connection has ended comes back after a pause.
RETURN_SECONDS = 1.0
FINISH_SECONDS = 60.0
# Attackers are elsewhere: what they compute must not be taken from the server, nor from the other clients.
ATTACKERS_NICENESS = 10
# What measures must not wait for whatever else this machine does, where that may be asked for.
OTHERS_NICENESS = -10
OTHERS_PATIENCE_SECONDS = 3.0


def say(figures: object) -> None:
    """One line to the test."""
    print(json.dumps(figures), flush=True)


# Attackers


async def keep_attacking(attacker: Attacker, kind: str, delay: float) -> None:
    """Attacks until cancelled, over a new connection whenever one has ended."""
    await asyncio.sleep(delay)
    while True:
        try:
            await ATTACKS[kind](attacker)
        except (OSError, EOFError, ssl.SSLError, TimeoutError, asyncio.TimeoutError) as end:
            attacker.tally["cut" if isinstance(end, (EOFError, ConnectionError)) else type(end).__name__] += 1
        await asyncio.sleep(RETURN_SECONDS)


async def attack(spec: dict[str, Any]) -> None:
    """Attacks from `begin` to `end`; in between `finish` has steady readers read the rest."""
    loop = asyncio.get_running_loop()
    tally: Counter[str] = Counter()
    count, protocols = spec["connections"], spec["protocols"]
    cleartext, secure = map(tuple, spec["addresses"])
    attackers = [
        Attacker(
            cleartext,
            secure,
            protocols[number * len(protocols) // count],
            number,
            spec["parameters"],
            tally,
        )
        for number in range(count)
    ]
    tasks: list[asyncio.Task[None]] = []
    say("ready")
    while command := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        if command == "begin":
            delays = [spec["arrival_seconds"] * attacker.number / count for attacker in attackers]
            tasks = [
                asyncio.ensure_future(keep_attacking(attacker, spec["kind"], delay))
                for attacker, delay in zip(attackers, delays, strict=True)
            ]
        elif command == "finish":
            for attacker in attackers:
                attacker.finishing.set()
            deadline = loop.time() + FINISH_SECONDS
            while tally["whole"] < count and not tally["cut"] and loop.time() < deadline:
                await asyncio.sleep(0.05)
        elif command == "end":
            await give_up(tasks)
        crashes = [task.exception() for task in tasks if task.done() and not task.cancelled()]
        if crashes:
            raise RuntimeError("an attacker is at fault") from crashes[0]
        say(tally)


async def give_up(tasks: list[asyncio.Task[None]]) -> None:
    """Ends all of them; again and again, since before Python 3.12 `wait_for` may lose a cancellation."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.2)


# The other clients


def serve_others(spec: dict[str, Any]) -> None:
    """Asks for /ping at a fixed rate, from `begin` to `end`; says what became of that."""
    load = None
    say("ready")
    while command := sys.stdin.readline().strip():
        if command == "begin":
            load = Load(tuple(spec["address"]), spec["rate"], patience=OTHERS_PATIENCE_SECONDS)
            load.__enter__()
            say({})
        elif command == "end":
            load.__exit__()
            say({"sent": load.sent, "seconds": load.answered_seconds(), "told": load.told()})


def main() -> None:
    """Plays the part that the first argument describes."""
    spec = json.loads(sys.argv[1])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if spec["part"] == "attackers":
        os.nice(ATTACKERS_NICENESS)
        asyncio.run(attack(spec))
    else:
        with contextlib.suppress(PermissionError):
            os.nice(OTHERS_NICENESS)
        serve_others(spec)


main()
