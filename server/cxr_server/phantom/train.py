"""Train: drawn phantoms -> weights, operating points and a report.

`python -m cxr_server.phantom.train --output DIR`. First plain classification; then a few epochs
in which evidence away from the known mask costs a little. The same cost from the start slows
the learning badly: a network must know a finding before it can be told where to look.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from cxr_server.phantom import network as net
from cxr_server.phantom.dataset import PhantomSet, draw_set
from cxr_server.phantom.findings import FINDINGS
from cxr_server.phantom.measure import measure, operating_point, table

TRAIN_SEED = 10_000_000
VALIDATION_SEED = 20_000_000
HELD_OUT_SEED = 30_000_000
"""First seeds of the three sets. Seeds below ten million are never trained or calibrated on."""

LIBRARIES = ("numpy", "scipy", "torch", "torchxrayvision")


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """One training; the defaults make the shipped weights.

    Attributes:
        images: phantoms to learn from.
        validation_images, held_out_images: to place the operating points; to measure.
        large_images: further held-out phantoms, drawn at `large_px` and resized as a server
            resizes what it is sent.
        epochs: passes of plain classification.
        focus_epochs: passes with the added cost of stray evidence.
        focus_weight: that cost, relative to the classification loss.
        batch: images a step.
        learning_rate, focus_learning_rate: greatest ones of the two stages.
        seed: of the weights' start and of the order of images.
        workers: drawing processes.
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


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network: float32 `state_dict`, a threshold per finding, and a JSON-able report."""

    state_dict: dict[str, Tensor]
    thresholds: tuple[float, ...]
    report: dict[str, object]


EpochDone = Callable[[int, nn.Module], None]


def train(config: TrainingConfig, after_epoch: EpochDone | None = None) -> Trained:
    """Draws the sets, trains, places the operating points and measures.

    Args:
        config: see `TrainingConfig`.
        after_epoch: called with the epoch's number (from 1) and the network.
    """
    started = time.monotonic()
    data = _draw(TRAIN_SEED, config.images, config, soften=True)
    print(f"drawn {config.images} phantoms in {time.monotonic() - started:.0f} s", flush=True)
    network, losses = fit_network(config, data, after_epoch)
    trained_s = time.monotonic() - started

    validation = _draw(VALIDATION_SEED, config.validation_images, config, soften=True)
    _, raw_nk = infer(network, validation)
    thresholds = tuple(
        operating_point(raw_nk[:, k], validation.labels_nk[:, k]) for k in range(len(FINDINGS))
    )
    evaluation: dict[str, object] = {}
    for size_px, count in ((224, config.held_out_images), (config.large_px, config.large_images)):
        held_out = _draw(HELD_OUT_SEED, count, config, size_px=size_px)
        rows = measure(FINDINGS, *infer(network, held_out), thresholds, held_out)
        evaluation[f"drawn_at_{size_px}"] = [asdict(row) for row in rows]
        print(f"\n{count} held-out phantoms drawn at {size_px} px\n{table(rows)}", flush=True)
    report: dict[str, object] = {
        "labels": list(FINDINGS),
        "thresholds": list(thresholds),
        "architecture": {"class": "torchxrayvision.models.DenseNet", **net.ARCHITECTURE},
        "parameters": sum(p.numel() for p in network.parameters()),
        "config": asdict(config),
        "first_seeds": {
            "train": TRAIN_SEED,
            "validation": VALIDATION_SEED,
            "held_out": HELD_OUT_SEED,
        },
        "epoch_losses": losses,
        "evaluation": evaluation,
        "training_seconds": round(trained_s),
        "versions": {"python": platform.python_version()} | {n: version(n) for n in LIBRARIES},
    }
    return Trained(weights_of(network), thresholds, report)


def fit_network(
    config: TrainingConfig, data: PhantomSet, after_epoch: EpochDone | None = None
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Trains a fresh network on a drawn set; returns it in eval mode, with each epoch's losses."""
    torch.manual_seed(config.seed)
    order = np.random.default_rng(config.seed)
    network = net.build_network().to(memory_format=torch.channels_last)  # half again as fast
    losses: list[dict[str, float]] = []
    for epochs, rate, focus in (
        (config.epochs, config.learning_rate, 0.0),
        (config.focus_epochs, config.focus_learning_rate, config.focus_weight),
    ):
        if epochs == 0:
            continue
        steps = len(data.labels_nk) // config.batch
        optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
        total = epochs * steps + 1
        # The warm-up is a fifth, and at least two steps: the schedule divides by its length.
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=rate, total_steps=total, pct_start=max(0.2, 2 / total)
        )
        for _ in range(epochs):
            started = time.monotonic()
            shuffled = order.permutation(len(data.labels_nk))[: steps * config.batch]
            network.train()
            totals = np.zeros(2)
            for chosen in shuffled.reshape(steps, config.batch):
                totals += _step(network, optimiser, data, chosen, focus)
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


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """The state_dict in plain contiguous layout, as files want it."""
    return {
        name: value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }


def _step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    data: PhantomSet,
    chosen: NDArray[np.int64],
    focus: float,
) -> NDArray[np.float64]:
    """One step; returns its classification loss and its share of stray evidence."""
    images = net.normalised(torch.from_numpy(data.pixels_nhw[chosen]))
    labels = torch.from_numpy(data.labels_nk[chosen])
    evidence = net.evidence_of(network, images)
    bce = functional.binary_cross_entropy_with_logits(
        net.logits_of(network, evidence), labels.float()
    )
    stray = net.stray_share(evidence, torch.from_numpy(data.near_nkhw[chosen]), labels)
    optimiser.zero_grad()
    (bce + focus * stray).backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return np.array([bce.item(), stray.item()])


@torch.inference_mode()
def infer(
    network: nn.Module, data: PhantomSet, batch: int = 64
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Evidence [N, K, 7, 7] and sigmoid outputs [N, K] of a network in eval mode."""
    evidence, raw = [], []
    for start in range(0, len(data.pixels_nhw), batch):
        pixels = torch.from_numpy(data.pixels_nhw[start : start + batch])
        maps = net.evidence_of(network, net.normalised(pixels))
        evidence.append(maps.numpy())
        raw.append(net.logits_of(network, maps).double().sigmoid().numpy())
    return np.concatenate(evidence), np.concatenate(raw)


def _draw(
    first: int, count: int, config: TrainingConfig, *, size_px: int = 224, soften: bool = False
) -> PhantomSet:
    seeds = range(first, first + count)
    return draw_set(seeds, size_px=size_px, soften=soften, workers=config.workers)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: trains and writes `weights.safetensors` and `training.json`."""
    parser = argparse.ArgumentParser(prog="python -m cxr_server.phantom.train")
    parser.add_argument("--output", type=Path, required=True, help="folder to write into")
    defaults = TrainingConfig()
    for name in ("images", "epochs", "focus_epochs", "seed", "workers"):
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(
            flag, type=int, default=getattr(defaults, name), help="default: %(default)s"
        )
    chosen = vars(parser.parse_args(arguments))
    output: Path = chosen.pop("output")
    output.mkdir(parents=True, exist_ok=True)

    def checkpoint(epoch: int, network: nn.Module) -> None:
        save_file(
            weights_of(network), output / "checkpoint.safetensors", metadata={"epoch": str(epoch)}
        )

    trained = train(TrainingConfig(**chosen), checkpoint)
    save_file(trained.state_dict, output / "weights.safetensors")
    (output / "training.json").write_text(json.dumps(trained.report, indent=2) + "\n")
    (output / "checkpoint.safetensors").unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
