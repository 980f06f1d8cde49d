"""One batch through an ensemble: a loop, vmap and torch.compile, in float32 and bfloat16.

All ways are timed in turn in one run; medians and their ratio to the loop in bfloat16, which is what the scoring pass
does by default (`scoring.compile: true` switches to the compiled one).

    python benchmarks/ensemble_forward.py [--members 6] [--batch 8] [--device cpu]
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from poolscout.config import DetectorConfig
from poolscout.detector.calibration import Calibration
from poolscout.detector.member import Member, MemberCard
from poolscout.detector.model import UNet

Step = Callable[[Tensor], object]


def make_members(n: int, device: str, **architecture: object) -> list[Member]:
    members = []
    for seed in range(n):
        torch.manual_seed(seed)
        config = DetectorConfig(**architecture)
        card = MemberCard(
            architecture=config, classes=tuple("abcde"), calibration=Calibration(focus=2.0, biases=(0.0,) * 5),
            seed=seed, training={},
        )  # fmt: skip
        members.append(Member(UNet(5, config), card, device))
    return members


def loop(members: list[Member]) -> Step:
    def step(pixels: Tensor) -> object:
        prepared = members[0].prepare(pixels)
        return [member._forward(prepared).logits for member in members]

    return step


def through_vmap(members: list[Member]) -> Step:
    """All members' weights stacked, one call: convolutions become grouped ones."""
    networks = [member._network for member in members]
    weights, buffers = stack_module_state(networks)
    weights = {name: value.detach() for name, value in weights.items()}
    empty = copy.deepcopy(networks[0]).to("meta")

    def one(weights: dict, buffers: dict, prepared: Tensor) -> Tensor:
        return functional_call(empty, (weights, buffers), (prepared,)).logits

    together = torch.vmap(one, (0, 0, None))

    def step(pixels: Tensor) -> object:
        return together(weights, buffers, members[0].prepare(pixels))

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    n, device = options.members, options.device
    rough, exact = make_members(n, device, bf16="on"), make_members(n, device, bf16="off")
    shape = (options.batch, 3, rough[0].architecture.height, rough[0].architecture.width)
    start = time.perf_counter()
    compiled = [member.compiled(shape) for member in rough]
    print(f"{'compiling':32} {time.perf_counter() - start:17.1f} s")
    ways: dict[str, Step] = {
        "loop, bf16": loop(rough),
        "loop, fp32": loop(exact),
        "vmap, bf16": through_vmap(rough),
        "vmap, fp32": through_vmap(exact),
        "torch.compile in a loop, bf16": loop(compiled),
    }
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8).to(device)
    times: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for name, step in ways.items():
            start = time.perf_counter()
            step(pixels)
            print(f"{name:32} first call {time.perf_counter() - start:6.1f} s")
        for _ in range(options.repeats):
            for name, step in ways.items():
                synchronise(device)
                start = time.perf_counter()
                step(pixels)
                synchronise(device)
                times[name].append(time.perf_counter() - start)
    base = np.array(times["loop, bf16"])
    print(
        f"{n} members, batches of {options.batch} at {shape[3]}×{shape[2]}, {device}, {torch.get_num_threads()} threads"
    )
    for name, seconds in times.items():
        ratio = np.median(np.array(seconds) / base)
        print(f"{name:32} {1e3 * np.median(seconds) / options.batch:7.2f} ms an image  {ratio:6.2f} × the loop in bf16")


def synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
