"""The strategies that the paper's tables compare (Haussmann et al. 2020), as settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from poolscout.config_experiment import ExperimentRunConfig, StrategyConfig
from poolscout.errors import ConfigError, nearest

Strategies = dict[str, StrategyConfig]
MI = "mutual_information"
RECOMMENDED = "xu-xl"  # what reports look at first; docs/strategies.md says why
SCORERS = (  # Table I: scorer, its name there, aggregations
    ("entropy", "entropy", ("max", "average")),
    ("gradient", "grad", ("max", "average")),
    ("detection_entropy", "det-ent", ("max", "average", "sum")),
    (MI, "mi", ("max", "average")),
    ("mc_dropout", "mc-dropout", ("max",)),
)
RANDOM = StrategyConfig(title="random", selection={"sampler": "random"})


def scoring(config: ExperimentRunConfig) -> Strategies:
    """Table I: each scorer and aggregation with top-N, and random."""
    named = {
        f"{short}-{aggregate}": _top(scorer, aggregate, title=f"{short} {aggregate}")
        for scorer, short, aggregates in SCORERS
        for aggregate in aggregates
    }
    return {"random": RANDOM, **named}


def sampling(config: ExperimentRunConfig) -> Strategies:
    """Table II: which end of the ranking by mutual information is labelled."""
    samplers = ("top-n", "top-third", "half-half", "bottom-n")
    return {"random": RANDOM, **{name: _by(MI, "max", name, title=name) for name in samplers}}


def diversity(config: ExperimentRunConfig) -> Strategies:
    """Table III: k-means++, core-set and OMP, the latter also cosine, on own and other embeddings; top-N and random."""
    named = {}
    for embeddings in ("own", *config.experiment.embeddings):
        for sampler, metrics in (("kmeans++", ("euclidean",)), ("coreset", METRICS), ("omp", METRICS)):
            for metric in metrics:
                name = f"{sampler.replace('++', 'pp')}-{metric}" + ("" if embeddings == "own" else f"-{embeddings}")
                title = f"{sampler} {metric}" + ("" if embeddings == "own" else f", {embeddings}")
                named[name] = _by(MI, "max", sampler, title=title, embeddings=embeddings, metric=metric)
    return {"random": RANDOM, "top-n": _top(MI, "max", title="top-n"), **named}


def loop(config: ExperimentRunConfig) -> Strategies:
    """Table IV: several rounds of [X_u] and [X_u, X_l] against random and random-per-sequence."""
    return {
        "random": RANDOM,
        "random-per-sequence": StrategyConfig(
            title="random per sequence", selection={"sampler": "random-per-sequence"}
        ),
        "xu": _top(MI, "max", title="top-n of X_u"),
        RECOMMENDED: _top(MI, "max", title="top-n of X_u, X_l", over="all"),
    }


def by_turns(config: ExperimentRunConfig) -> StrategyConfig:
    """Section V: the highest mutual information, for the wanted classes in turn; both arms pick new images."""
    limits = {**config.selection.constraints.model_dump(), "classes": config.experiment.ab.classes}
    by_class = {"over_classes": "max", "class_weights": None, "normalise_classes": False}  # each ranks by its own score
    title = f"top-n by MI, by turns over {', '.join(config.experiment.ab.classes)}"
    return _top(MI, "max", title=title, constraints=limits, **by_class)


METRICS = ("euclidean", "cosine")
EXPERIMENTS: dict[str, Callable[[ExperimentRunConfig], Strategies]] = {
    "scoring": scoring, "sampling": sampling, "diversity": diversity, "loop": loop,
}  # fmt: skip
ONE_ROUND = ("scoring", "sampling", "diversity")
KINDS = (*EXPERIMENTS, "ab")


def check_kind(kind: str) -> None:
    """Refuse what is no experiment.

    Raises:
        ConfigError: names those there are.
    """
    if kind not in KINDS:
        meant = "the kind comes first: poolscout experiment loop CONFIG" if "." in kind else nearest(kind, KINDS)
        fix = meant or "take one of these"
        raise ConfigError(f"no experiment {kind!r}", got=kind, expected=", ".join(KINDS), fix=fix)


def _top(scorer: str, aggregate: str, **more: Any) -> StrategyConfig:
    return _by(scorer, aggregate, "top-n", **more)


def _by(
    scorer: str, aggregate: str, sampler: str, *, title: str, over: Any = "unlabelled", embeddings: str = "own",
    **selection: Any,
) -> StrategyConfig:  # fmt: skip
    return StrategyConfig(
        title=title, scorer=scorer, aggregate=aggregate, over=over, embeddings=embeddings,
        selection={"sampler": sampler, **selection},
    )  # fmt: skip
