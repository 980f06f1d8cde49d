from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys, torch
from poolscout.engine.memory import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    assert keep_freed_memory()
net = torch.nn.Sequential(*[torch.nn.Conv2d(3 if i == 0 else 16, 16, 3, padding=1) for i in range(4)])
@torch.inference_mode()
def work():
    for _ in range(20):
        net(torch.zeros(4, 3, 128, 128))
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_blocks_that_are_used_again_are_not_cleared_by_the_system_again() -> None:
    def faults(how: str) -> int:
        ended = subprocess.run([sys.executable, "-c", COUNT_FAULTS, how], capture_output=True, text=True, check=True)
        return int(ended.stdout)

    kept, given_back = faults("keep"), faults("give back")
    assert kept < 2_000
    assert given_back > 5 * kept + 5_000
