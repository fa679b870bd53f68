"""Fixtures for tests that need real guests: one lab of its own for the whole session, and guests for each test."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from hypothesis import settings
from tests.longest_first import longest_first

from leeward.lab.guests import Guest
from leeward.lab.lab import Lab, take_down_dead
from leeward.lab.places import CACHE_VARIABLE, DEFAULT_ROOT

# Not below pytest's own temporary folder: images are opened with O_DIRECT, which a tmpfs does not have, and sockets
# need short paths.
LABS = Path("/var/tmp")
PREFIX = "lwtest-"

HERE = Path(__file__).parent

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h

# Of `make test-fast`: a quarter of the examples that are tried otherwise.
settings.register_profile("fast", settings.default, max_examples=settings.default.max_examples // 4)

GuestFactory = Callable[..., Guest]


def pytest_configure() -> None:
    """A runner in the background has SIGINT ignored, and so would every program that is started here."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Hundreds of commands are started: each would compile all of Leeward anew, a sixth of a console's start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    _keep_memory()
    gc.disable()  # until all is collected, see below


def _keep_memory() -> None:
    """Disks in memory come and go by megabytes: to get each from the kernel anew costs a fifth of test_prune."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # no larger one is taken
        libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # Real guests and real time on a machine that may stand still for seconds: what fails is tried once more, and
        # both times are told. What fails twice has failed.
        if item.get_closest_marker("lab") or item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.flaky(reruns=int(os.environ.get("LEEWARD_RERUNS", "1"))))
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("lab"):
                item.add_marker(pytest.mark.skip(reason="the lab needs root"))
    if "PYTEST_XDIST_WORKER" in os.environ:
        _sort(items)


def _sort(items: list[pytest.Item]) -> None:
    """Several share the work, file by file in this order (with --no-loadscope-reorder): see longest_first."""
    names = [item.path.relative_to(HERE).as_posix() for item in items]
    place = {name: number for number, name in enumerate(longest_first(names))}
    items.sort(key=lambda item: place[item.path.relative_to(HERE).as_posix()])


def pytest_collection_finish() -> None:
    """What is imported stays to the end: looking through it for garbage again and again took a fifth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def pytest_sessionfinish() -> None:
    """Nor is what is left at the end looked through: the process ends."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def kept_commands() -> Iterator[None]:
    """Commands that tests call in this process are put together once: two thirds of what a light one takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session")
def lab_cache() -> Iterator[None]:
    """Let all test labs share the default lab's builds, unless the environment names another cache."""
    with pytest.MonkeyPatch.context() as patch:
        if CACHE_VARIABLE not in os.environ:
            patch.setenv(CACHE_VARIABLE, str(DEFAULT_ROOT / "cache"))
        yield


@pytest.fixture(scope="session")
def make_lab(lab_cache: None) -> Iterator[Callable[[str], Lab]]:
    """make_lab("x") → a Lab of this test process in a folder of its own, not yet up; taken down at the end."""
    take_down_dead(LABS, PREFIX)
    made: list[Lab] = []

    def make(name: str) -> Lab:
        made.append(Lab(LABS / f"{PREFIX}{os.getpid()}-{name}"))
        return made[-1]

    yield make
    for lab in made:
        lab.down()


@pytest.fixture(scope="session")
def lab(make_lab: Callable[[str], Lab]) -> Lab:
    """Both sites up, no guests. Shared by the whole session: leave it as you found it."""
    lab = make_lab("main")
    lab.up(guests=())
    return lab


@pytest.fixture
def guest_factory(lab: Lab) -> Iterator[GuestFactory]:
    """guest_factory("office", "db", disks=(64, 32), …) → a running guest that answers HTTP; gone after the test.

    Takes what Lab.define_guest takes; start=False leaves it off, wait=False does not wait for HTTP.
    """
    made: list[tuple[str, str]] = []

    def make(
        site: str = "office", name: str = "guest", *, start: bool = True, wait: bool = True, **wishes: Any
    ) -> Guest:
        made.append((site, name))
        guest = lab.define_guest(site, name, start=start, **wishes)
        if start and wait and wishes.get("bridge", "br0") == "br0":
            lab.wait_http(site, guest.ip, timeout_s=90)
        return guest

    yield make
    for site, name in reversed(made):
        lab.destroy_guest(site, name)
