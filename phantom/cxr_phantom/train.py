"""Train: PhantomSet -> network weights. Next: retrain.

Two phases: plain classification, then a few epochs with a penalty on evidence far from the mask.
With the penalty from the start, learning is much slower: a finding has to be recognised before it
can be localised.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cxr_phantom import network as net
from cxr_phantom.dataset import PhantomSet


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Configuration of a training run. The defaults produce the shipped weights.

    Attributes:
        images: Size of the training set.
        validation_images: Size of the set that determines the operating points.
        held_out_images: Size of the evaluation set.
        large_images: Size of the second evaluation set, drawn at `large_px` and preprocessed.
        large_px: Side of its images.
        epochs: Epochs of plain classification.
        focus_epochs: Epochs with the penalty on stray evidence.
        focus_weight: Weight of that penalty in the loss.
        batch: Batch size.
        learning_rate: Peak learning rate of the first phase.
        focus_learning_rate: Peak learning rate of the second phase.
        seed: Of the initial weights and the order of images.
        workers: Processes that draw.
    """

    images: int = 8000
    validation_images: int = 1000
    held_out_images: int = 2000
    large_images: int = 500
    large_px: int = 512
    epochs: int = 5
    focus_epochs: int = 3
    focus_weight: float = 0.1
    batch: int = 32
    learning_rate: float = 4e-3
    focus_learning_rate: float = 1.5e-3
    seed: int = 1
    workers: int = 2


EpochDone = Callable[[int, nn.Module], None]


def train_network(
    config: TrainingConfig, data: PhantomSet, after_epoch: EpochDone | None = None
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train a network from random weights.

    Args:
        config: See `TrainingConfig`.
        data: Training set, at least one batch.
        after_epoch: Called with the number of the epoch, from 1, and the network.

    Returns:
        The network in eval mode and the mean losses of each epoch.
    """
    torch.manual_seed(config.seed)
    order = np.random.default_rng(config.seed)
    network = net.build_network().to(memory_format=torch.channels_last)  # 1.5 times as fast
    losses: list[dict[str, float]] = []
    for epochs, rate, focus in (
        (config.epochs, config.learning_rate, 0.0),
        (config.focus_epochs, config.focus_learning_rate, config.focus_weight),
    ):
        if epochs == 0:
            continue
        steps = len(data.labels_nk) // config.batch
        optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
        total = epochs * steps + 1
        # A fifth of the steps is warm-up; OneCycleLR divides by its length, so at least two.
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=rate, total_steps=total, pct_start=max(0.2, 2 / total)
        )
        for _ in range(epochs):
            started = time.monotonic()
            shuffled = order.permutation(len(data.labels_nk))[: steps * config.batch]
            network.train()
            totals = np.zeros(2)
            for indices in shuffled.reshape(steps, config.batch):
                totals += _step(network, optimizer, data, indices, focus)
                schedule.step()
            network.eval()
            bce, stray = (totals / steps).tolist()
            losses.append({"bce": round(bce, 4), "stray": round(stray, 4)})
            print(
                f"epoch {len(losses)}: bce {bce:.4f}, stray evidence {stray:.3f}, "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )
            if after_epoch:
                after_epoch(len(losses), network)
    return network, losses


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: PhantomSet,
    indices: NDArray[np.int64],
    focus: float,
) -> NDArray[np.float64]:
    """Train on one batch. Returns its classification loss and fraction of stray evidence."""
    images = net.normalize(torch.from_numpy(data.pixels_nhw[indices]))
    labels = torch.from_numpy(data.labels_nk[indices])
    evidence = net.class_evidence(network, images)
    bce = functional.binary_cross_entropy_with_logits(net.logits(network, evidence), labels.float())
    stray = net.stray_evidence(evidence, torch.from_numpy(data.near_nkhw[indices]), labels)
    optimizer.zero_grad()
    (bce + focus * stray).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return np.array([bce.item(), stray.item()])


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the state_dict with contiguous tensors, as safetensors requires."""
    return {
        name: value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }


@torch.inference_mode()
def infer(
    network: nn.Module, data: PhantomSet, batch: int = 64
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return evidence [N, K, 7, 7] and sigmoid outputs [N, K] of a network in eval mode."""
    evidence, raw = [], []
    for start in range(0, len(data.pixels_nhw), batch):
        pixels = torch.from_numpy(data.pixels_nhw[start : start + batch])
        maps = net.class_evidence(network, net.normalize(pixels))
        evidence.append(maps.numpy())
        raw.append(net.logits(network, maps).double().sigmoid().numpy())
    return np.concatenate(evidence), np.concatenate(raw)
