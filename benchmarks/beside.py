"""Something that goes on beside something else."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do `work` while the block runs; what it raises is raised at the block's end.

    Args:
        work: Given an event that is set when the block has ended, and then to return soon.
    """
    over = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as pool:
        working = pool.submit(work, over)
        try:
            yield
        finally:
            over.set()
        working.result()
