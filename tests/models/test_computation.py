"""How a training process computes."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from models.training.computation import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def touched() -> int:
    torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
counts = [touched() for _ in range(7)]
print((counts[6] - counts[2]) // 4)  # the heap grows in the first
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have another allocator")
def test_memory_that_a_step_frees_is_there_for_the_next():
    """64 MiB are 16,384 pages of 4 KiB, each a fault where the kernel had them back."""
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True, text=True).stdout)
        for how in ("keep", "return")
    }
    assert faults["keep"] < 100 < 10_000 < faults["return"]
