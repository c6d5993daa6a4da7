"""Empty caches: what a call costs whose operands were last touched long ago."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .machine import last_level_cache

PASSES = 2
"""Caches don't replace their lines strictly in turn: one pass leaves some behind."""


class CacheFlush:
    """Reads memory larger than the last cache, in as many threads as compute.

    Every thread reads all of it, so that no core keeps anything in a cache of its own. Nothing is written: modified
    lines would have to leave the caches while the clock runs.
    """

    def __init__(self, threads: int):
        self.memory = np.ones(2 * last_level_cache() // 8)
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads)

    def __call__(self) -> None:
        list(self.pool.map(lambda _: [self.memory.max() for _ in range(PASSES)], range(self.threads)))
