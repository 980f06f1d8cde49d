"""Honest probabilities: undo the loss's known distortion, then fit a temperature and a bias per class.

Calibrated is p(an object of this class is centred here), where "here" forgives what no viewer could tell: a centre
within about 18 % of the object's sides counts (`targets.CORE`), a tiny object's only in its own cell. Of the exact cell
alone, no detector can be sure when an object spans hundreds of cells.

The focal loss with γ is minimised not by the true probability η but by a q that is drawn towards ½. Its inverse is
closed (Charoenphakdee et al. 2021, "On focal loss for class-posterior probability estimation", theorem 11):

    η / (1 − η) = [q / φ(q)] / [(1 − q) / φ(1 − q)],   φ(q) = (1 − q)^γ − γ (1 − q)^(γ−1) q ln q

With a = |logit|, e = exp(−a) and s = ln(1 + e) this becomes the odd function that `undo_focal` calculates:

    ln η/(1−η) = ± [γ a + ln((1 + γ e (a + s)) / (e + γ s))]

What the loss's penalty reduction near centres and short training add is not known in closed form: that is what the
temperature and the biases, fitted on held-back labels, are for.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

BINS = 15
LEAST = 1e-3  # calibrated, positions below are left out of the error: nearly all are, and would make any map look good
WIDEST, STEP = 30.0, 0.02  # logits: range and bin width of the histogram that is fitted
PRIOR_STD = 1.5  # of ln temperature and the biases: a class without held-back objects keeps a finite bias


class Calibration(BaseModel):
    """calibrated logit = undo_focal(logit, focus) / temperature + bias[class]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    focus: float = Field(description="γ of the loss that is undone; 0 = nothing to undo")
    temperature: float = Field(1.0, gt=0)
    biases: tuple[float, ...] = Field(description="one a class, in logits")
    error_before: float | None = Field(None, description="calibration error of the raw sigmoid; None: not measured")
    error_after: float | None = Field(None, description="the same, calibrated on the other half of the images")
    n_images: int = Field(0, description="held-back images it was fitted on")
    n_objects: int = Field(0, description="objects in them")
    n_positions: int = Field(0, description="map positions on their centres")

    def apply(
        self, logits: Float[Tensor, "images classes height width"]
    ) -> Float[Tensor, "images classes height width"]:
        """Calibrated probabilities of raw logits."""
        biases = logits.new_tensor(self.biases)[:, None, None]
        undone = undo_focal(logits, self.focus)
        return torch.add(biases, undone, alpha=1 / self.temperature).sigmoid_()


def undo_focal(logits: Float[Tensor, "*any"], focus: float) -> Float[Tensor, "*any"]:
    """Logits of the true probability from those that minimise the focal loss with γ = `focus`."""
    if focus == 0:
        return logits
    # In place and with the fewest passes: this runs over every map of every member. No term cancels.
    a = logits.abs()
    e = (-a).exp_()
    s = e.log1p()
    numerator = (a + s).mul_(e).mul_(focus).add_(1)
    denominator = s.mul_(focus).add_(e).clamp_min_(torch.finfo(logits.dtype).tiny)
    return numerator.div_(denominator).log_().add_(a, alpha=focus).copysign_(logits)


def calibration_error(probabilities: Float[Tensor, " n"], happened: Bool[Tensor, " n"]) -> float:
    """Expected calibration error over `BINS` bins of equal count (Naeini et al. 2015); 0 for no positions at all.

    Σ_bins n_bin / n · |mean p − share that happened|
    """
    p, order = probabilities.double().sort()
    y = happened[order].double()
    gaps = [
        abs(float(p_bin.sum() - y_bin.sum()))
        for p_bin, y_bin in zip(p.tensor_split(BINS), y.tensor_split(BINS), strict=True)
    ]
    return sum(gaps) / max(len(p), 1)


def fit_calibration(
    logits: Float[Tensor, "images classes height width"],
    centres: Bool[Tensor, "images classes height width"],
    focus: float,
    n_objects: int,
) -> Calibration:
    """Fit temperature and biases to held-back images by likelihood, with a weak prior.

    Args:
        logits: raw logits of the detector.
        centres: whether an object of the class is centred here.
        focus: γ of the focal loss it was trained with.
        n_objects: objects in the images; only noted.

    Returns:
        The calibration fitted on all images. Its errors are measured crosswise, each half of the images with the
        other half's fit, before and after on the same positions (calibrated p ≥ `LEAST`); None for a single image.
    """
    n_images, _n_classes = logits.shape[:2]
    undone = undo_focal(logits.float(), focus)
    temperature, biases = _fit(undone, centres)
    before = after = None
    if n_images >= 2:
        crossed = torch.empty_like(undone)
        for half, other in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
            t, b = _fit(undone[other], centres[other])
            crossed[half] = (undone[half] / t + b[:, None, None]).sigmoid()
        counted = crossed >= LEAST
        before = calibration_error(logits[counted].sigmoid(), centres[counted])
        after = calibration_error(crossed[counted], centres[counted])
    return Calibration(
        focus=focus, temperature=float(temperature), biases=tuple(biases.tolist()), error_before=before,
        error_after=after, n_images=n_images, n_objects=n_objects, n_positions=int(centres.sum()),
    )  # fmt: skip


def no_calibration(n_classes: int, focus: float) -> Calibration:
    """Only the loss's known distortion undone: for want of held-back labels."""
    return Calibration(focus=focus, biases=(0.0,) * n_classes)


def _fit(undone: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Temperature and biases of the highest posterior; found on a histogram, as there are millions of positions."""
    n_classes, n_bins = undone.shape[1], round(2 * WIDEST / STEP) + 1
    bins = ((undone.clamp(-WIDEST, WIDEST) + WIDEST) / STEP).round().long()
    bins += torch.arange(n_classes, device=bins.device)[:, None, None] * n_bins
    size = n_classes * n_bins
    counts = torch.bincount(bins.flatten(), minlength=size).view(n_classes, n_bins).double().cpu()
    happened = torch.bincount(bins[centres], minlength=size).view(n_classes, n_bins).double().cpu()
    at = torch.linspace(-WIDEST, WIDEST, n_bins, dtype=torch.double)
    log_t = torch.zeros((), dtype=torch.double, requires_grad=True)
    biases = torch.zeros(n_classes, dtype=torch.double, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_t, biases], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        fitted = at * torch.exp(-log_t) + biases[:, None]
        prior = (log_t**2 + (biases**2).sum()) / (2 * PRIOR_STD**2)
        loss = (counts * F.softplus(fitted) - happened * fitted).sum() + prior
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)
    return log_t.detach().exp().to(undone), biases.detach().to(undone)
