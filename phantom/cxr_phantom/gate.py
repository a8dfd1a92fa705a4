"""Gate: seeds -> `gate.npz`, the server's check of whether an image shows a frontal chest."""

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from cxr_phantom.dataset import HELD_OUT_SEED, TRAIN_SEED, VALIDATION_SEED
from cxr_phantom.gate_images import thumbnails_of
from cxr_server.imaging.gate import WEIGHTS_NAME, Gate, View, features

Features = NDArray[np.float32]
"""One row for each thumbnail, [N, 2048]."""

PENALTY = 1e-2
"""Weight of the squared weights beside the mean cross entropy. The layout is learnt, not the
details, which drawn films do not share with real ones."""
REFUSED_SHARE = 0.99
"""Share of the validation set's images of OTHER, the hardest, that the threshold refuses. It is the
lowest such threshold: real films resemble the drawn ones less than these resemble each other."""


def labelled_features(first_seed: int, count: int, workers: int) -> tuple[Features, list[View]]:
    """Return features and views of the thumbnails of `count` drawn films."""
    seeds = range(first_seed, first_seed + count)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        films = list(pool.map(thumbnails_of, seeds, chunksize=25))
    made = [pair for film in films for pair in film]
    return np.stack([features(image_hw) for image_hw, _ in made]), [view for _, view in made]


def train(features_nf: Features, views: list[View]) -> tuple[Features, NDArray[np.float32]]:
    """Return weights and bias of a multinomial logistic regression with a penalty."""
    count, feature_count = features_nf.shape
    labels_n = np.array([view.value for view in views])
    shape = (len(View), feature_count + 1)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        table = flat.reshape(shape)
        weights_vf, bias_v = table[:, :-1].astype(np.float32), table[:, -1]
        log_nv = log_softmax(features_nf @ weights_vf.T + bias_v, axis=1)
        error_nv = np.exp(log_nv)
        error_nv[np.arange(count), labels_n] -= 1
        slope = np.empty(shape)
        slope[:, :-1] = error_nv.T.astype(np.float32) @ features_nf / count
        slope[:, :-1] += 2 * PENALTY * table[:, :-1]
        slope[:, -1] = error_nv.mean(axis=0)
        cost = -log_nv[np.arange(count), labels_n].mean() + PENALTY * (table[:, :-1] ** 2).sum()
        return float(cost), slope.ravel()

    found = minimize(loss, np.zeros(np.prod(shape)), jac=True, method="L-BFGS-B")
    table = found.x.reshape(shape).astype(np.float32)
    return np.ascontiguousarray(table[:, :-1]), np.ascontiguousarray(table[:, -1])


def frontal_probability(features_nf: Features, gate: Gate) -> NDArray[np.float64]:
    """Return the probability of FRONTAL for each row."""
    logits_nv = features_nf @ gate.weights_vf.T + gate.bias_v
    probability_nv = np.exp(log_softmax(logits_nv.astype(np.float64), axis=1))
    return np.asarray(probability_nv[:, View.FRONTAL.value], np.float64)


def write_gate(output: Path, films: int, workers: int) -> Gate:
    """Train, choose the threshold, print the shares that are refused, and write the file.

    `films` drawn films are trained on; three tenths as many choose the threshold, and as many
    others are what is printed.
    """
    checked = max(1, films * 3 // 10)
    gate = Gate(*train(*labelled_features(TRAIN_SEED, films, workers)), np.zeros((), np.float32))
    features_nf, views = labelled_features(VALIDATION_SEED, checked, workers)
    is_other = np.array([view is View.OTHER for view in views])
    others = frontal_probability(features_nf[is_other], gate)
    gate = gate._replace(threshold=np.asarray(np.quantile(others, REFUSED_SHARE), np.float32))
    print(f"threshold {gate.threshold:.3f}")
    features_nf, views = labelled_features(HELD_OUT_SEED, checked, workers)
    refused = frontal_probability(features_nf, gate) < gate.threshold
    for view in View:
        rows = np.array([each is view for each in views])
        print(f"{view.name:<12}{rows.sum():>6} refused {refused[rows].mean():.4f}")
    output.mkdir(parents=True, exist_ok=True)
    np.savez(output / WEIGHTS_NAME, **gate._asdict())
    return gate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `cxr-phantom gate`."""
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder of gate.npz"
    )
    parser.add_argument(
        "--films",
        type=int,
        default=400,
        metavar="N",
        help="drawn films to train on (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="processes that draw (default: 2)"
    )


def run(args: argparse.Namespace) -> int:
    """Train and write the file. Returns the exit status."""
    write_gate(args.output, args.films, args.workers)
    return 0
