"""Threads wait rather than hold more than is allowed."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tip_adapter.data.memory_budget import MemoryBudget


def test_threads_never_hold_more_than_the_limit():
    budget, held, most = MemoryBudget(100), [0], [0]
    lock = threading.Lock()

    def work(size):
        with budget.reserved(size):
            with lock:
                held[0] += size
                most[0] = max(most[0], held[0])
            with lock:
                held[0] -= size

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, np.random.default_rng(0).integers(0, 101, 500)))
    assert 0 < most[0] <= 100
    assert budget.reserved_bytes == 0


def test_what_was_held_is_free_again_after_an_error():
    budget = MemoryBudget(10)
    with pytest.raises(KeyError), budget.reserved(10):
        raise KeyError
    with budget.reserved(10):
        assert budget.reserved_bytes == 10


def test_small_requests_do_not_overtake_a_large_one():
    budget, order, asked = MemoryBudget(10), [], threading.Event()

    def ask(size):
        asked.set()
        with budget.reserved(size):
            order.append(size)

    with ThreadPoolExecutor(2) as pool:
        with budget.reserved(5):
            large = pool.submit(ask, 10)
            asked.wait()
            while not budget._first_come.locked():
                pass
            small = pool.submit(ask, 1)
        large.result()
        small.result()
    assert order == [10, 1]
