"""Tasks for processes, which find them by name."""

import os
import signal
import time
from pathlib import Path


def square(number):
    return number * number


def slow_square(number):
    """Early ones last longest, so that they finish out of order."""
    time.sleep(0.02 * (5 - number % 5))
    return number * number


def third_fails(number):
    if number == 3:
        raise ValueError("three is too much")
    return number


def dies_at_first(task):
    """Kills its own process like a machine out of memory does, once for each file that is not there yet."""
    number, folder = task
    mark = Path(folder) / f"{number}"
    if number % 4 == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def always_dies(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def sleeps(task):
    """Says which process it is, and sleeps."""
    folder, seconds = task
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(seconds)


def waits_for_its_end(folder):
    """The first process waits to be killed, the next one returns."""
    first = not list(Path(folder).iterdir())
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60 if first else 0)
    return os.getpid()


def threads(_):
    return os.environ["OMP_NUM_THREADS"]
