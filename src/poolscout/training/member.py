"""The training of one member, on one page."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Generator, Tensor, nn
from torch.optim import AdamW, Optimizer

from poolscout.config import DetectorConfig, TrainingConfig
from poolscout.detector.calibration import Calibration, fit_calibration, no_calibration
from poolscout.detector.loss import FOCUS, Maps, detection_loss
from poolscout.detector.member import Member, MemberCard, use_bf16
from poolscout.detector.model import UNet
from poolscout.detector.targets import CORE, Targets, build_targets
from poolscout.errors import NonFiniteError
from poolscout.training.augment import Batch, Crops, to_input
from poolscout.training.dataset import TrainingSet
from poolscout.training.muon import Muon
from poolscout.training.start import carried

REPORT_EVERY = 10  # steps
WARM_UP = 0.1  # share of the steps


class Progress(NamedTuple):
    """Where a training stands."""

    step: int
    steps: int
    loss: float  # mean since the last report
    crops_per_s: float
    map_loss: float  # the loss's two parts, the box loss before it is weighted
    box_loss: float
    learning_rate: float


def train_member(
    data: TrainingSet,
    classes: Sequence[str],
    detector: DetectorConfig,
    training: TrainingConfig,
    seed: int,
    device: torch.device | str = "cpu",
    held_back: TrainingSet | None = None,
    progress: Callable[[Progress], None] | None = None,
    start: Member | None = None,
) -> Member:
    """Train a detector and calibrate it on `held_back`. The same seed on the same machine gives the same weights.

    Args:
        data: images to learn from.
        classes: class names in the order of the class indices.
        detector, training: architecture and schedule.
        seed: initialisation, data order, augmentation and dropout follow from it.
        device: where it trains and the member stays.
        held_back: labelled images for calibration; None or empty: only the loss's known distortion is undone.
        progress: called every few steps.
        start: begin with its weights, as far as the classes are the same; default: from scratch.

    Raises:
        NonFiniteError: the loss is no longer a number.
    """
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)  # layers and dropout draw from the global generator only
        generator = Generator().manual_seed(seed)
        model = UNet(len(classes), detector)
        if start is not None:
            model.load_state_dict(carried(start, classes, model.state_dict()))
        model = model.to(device).to(memory_format=torch.channels_last).train()
        steps = n_steps(len(data), training)
        loss = _fit(model, data, detector, training, steps, generator, device, progress)
    calibration = _calibrate(model, detector, held_back, device)
    facts = {
        "images": len(data), "objects": sum(map(len, data.classes)), "steps": steps, "last_loss": loss,
        "config": training.model_dump(mode="json"),
    }  # fmt: skip
    card = MemberCard(architecture=detector, classes=tuple(classes), calibration=calibration, seed=seed, training=facts)
    return Member(model, card, device)


def n_steps(n_images: int, training: TrainingConfig) -> int:
    """Optimiser steps for so many images."""
    steps = round(training.epochs * n_images / training.batch_size)
    return min(max(steps, training.min_steps), training.max_steps)


def _fit(
    model: UNet, data: TrainingSet, detector: DetectorConfig, training: TrainingConfig, steps: int,
    generator: Generator, device: torch.device, progress: Callable[[Progress], None] | None,
) -> float:  # fmt: skip
    """Train `model` in place; it ends with the averaged weights. Returns the last reported loss."""
    crops = Crops(data, training, generator)
    optimisers = _optimisers(model, training)
    parameters = list(model.parameters())
    average = copy.deepcopy(model)
    averaged, weights = _floating(average), _floating(model)
    forward = _forward(model, training, device, use_bf16(detector.bf16, device))
    total, mean, since = torch.zeros(3, device=device), 0.0, time.perf_counter()
    for step in range(1, steps + 1):
        batch = crops.draw()
        images = to_input(batch.images.to(device), training.colour, generator)
        loss = detection_loss(
            forward(images), _targets(batch, model, images, device), model.stride, training.box_weight
        )
        model.zero_grad(set_to_none=True)
        loss.total.backward()
        nn.utils.clip_grad_norm_(parameters, 10.0)
        learning_rate = training.learning_rate * one_cycle((step - 0.5) / steps)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate
            optimiser.step()
        _update_average(averaged, weights, 1 - 1 / max(training.average_last * steps, 1))
        total += torch.stack(loss).detach()
        if step % REPORT_EVERY == 0 or step == steps:
            n = step % REPORT_EVERY or REPORT_EVERY
            mean, maps, boxes = (value / n for value in total.tolist())  # waits for the device: only here
            if not mean < float("inf"):
                raise NonFiniteError(
                    f"the training loss is {mean} at step {step}", got=mean, expected="a number",
                    fix="lower training.learning_rate, or set detector.bf16 to off",
                )  # fmt: skip
            now = time.perf_counter()
            if progress is not None:
                crops_per_s = n * training.batch_size / (now - since)
                progress(Progress(step, steps, mean, crops_per_s, maps, boxes, learning_rate))
            since = now
            total.zero_()
    model.load_state_dict(average.state_dict())
    return mean


def _forward(model: UNet, training: TrainingConfig, device: torch.device, bf16: bool) -> Callable[[Tensor], Maps]:
    """The model's maps and boxes for a batch of crops.

    On a GPU both directions are recorded once and replayed: to start a small network's kernels one by one takes the
    processor longer than they run.
    """
    maps = _Maps(model, device.type, bf16)
    if device.type != "cuda":
        return maps
    before = copy.deepcopy(model.state_dict())
    size = (training.batch_size, 3, training.crop_height, training.crop_width)
    sample = torch.zeros(size, device=device).to(memory_format=torch.channels_last)
    replayed = cast(nn.Module, torch.cuda.make_graphed_callables(maps, (sample,)))
    model.load_state_dict(before)  # batch statistics have seen the sample
    # The recording was made on another stream, as it must be, and autograd warns of that at every first replay.
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    return lambda images: Maps(*replayed(images))


class _Maps(nn.Module):
    """What is learnt of a model's output."""

    def __init__(self, model: UNet, device: str, bf16: bool) -> None:
        super().__init__()
        self.model, self.device, self.bf16 = model, device, bf16

    def forward(self, images: Tensor) -> Maps:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16, cache_enabled=self.device != "cuda"):
            output = self.model(images)
        return Maps(output.logits, output.boxes)


def _targets(batch: Batch, model: UNet, images: Tensor, device: torch.device) -> Targets:
    height, width = images.shape[2] // model.stride, images.shape[3] // model.stride
    return build_targets(
        batch.boxes_xyxy_px.to(device), batch.classes.to(device), batch.owners.to(device),
        len(images), model.n_classes, height, width, model.stride,
    )  # fmt: skip


def one_cycle(done: float) -> float:
    """Share of the peak learning rate when the share `done` of the training is: up linearly, down as a cosine."""
    if done < WARM_UP:
        return done / WARM_UP
    return 0.5 + 0.5 * math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))


def _optimisers(model: UNet, training: TrainingConfig) -> list[Optimizer]:
    """Muon for the inner convolutions; AdamW for the output layer, and for gains and biases without decay."""
    inner = [p for name, p in model.named_parameters() if p.ndim == 4 and not name.startswith("output")]
    gains = [p for p in model.parameters() if p.ndim == 1]
    decay = training.weight_decay
    groups = [{"params": [model.output.weight], "weight_decay": decay}, {"params": gains, "weight_decay": 0.0}]
    fused = model.output.weight.is_cuda
    return [Muon(inner, training.learning_rate, decay), AdamW(groups, training.learning_rate, fused=fused)]


@torch.no_grad()
def _update_average(average: list[Tensor], model: list[Tensor], decay: float) -> None:
    """Moving average of weights and batch statistics (Polyak & Juditsky 1992)."""
    torch._foreach_lerp_(average, model, 1 - decay)


def _floating(model: nn.Module) -> list[Tensor]:
    return [value for value in model.state_dict().values() if value.is_floating_point()]


@torch.no_grad()
def _calibrate(
    model: UNet, detector: DetectorConfig, held_back: TrainingSet | None, device: torch.device
) -> Calibration:
    if held_back is None or len(held_back) == 0:
        return no_calibration(model.n_classes, FOCUS)
    model.eval()
    logits, centres = [], []
    for i in range(len(held_back)):
        images = held_back.image(i)[None].to(device, torch.float32, memory_format=torch.channels_last) / 255
        with torch.autocast(device.type, torch.bfloat16, enabled=use_bf16(detector.bf16, device)):
            logits.append(model(images).logits.float())
        boxes, classes = held_back.boxes_xyxy_px[i].to(device), held_back.classes[i].to(device)
        batch = Batch(images, boxes, classes, torch.zeros_like(classes))
        centres.append(_targets(batch, model, images, device).heat >= CORE)
    return fit_calibration(torch.cat(logits), torch.cat(centres), FOCUS, sum(map(len, held_back.classes)))
