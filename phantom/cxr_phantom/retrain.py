"""Retrain: seeds -> `weights.safetensors` and `training.json`. Next: pack."""

import argparse
import json
import platform
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec
from safetensors.torch import save_file
from torch import Tensor, nn

from cxr_phantom import network as net
from cxr_phantom.dataset import HELD_OUT_SEED, TRAIN_SEED, VALIDATION_SEED, PhantomSet, draw_set
from cxr_phantom.findings import FINDINGS
from cxr_phantom.metrics import evaluate, format_table, operating_point
from cxr_phantom.train import EpochDone, TrainingConfig, infer, state_of, train_network
from cxr_phantom.training_files import REPORT_NAME, WEIGHTS_NAME

LIBRARIES = ("numpy", "scipy", "torch", "torchxrayvision")


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """float32 `state_dict`, an operating point for each finding, and a JSON-serialisable report."""

    state_dict: dict[str, Tensor]
    thresholds: tuple[float, ...]
    report: dict[str, object]


def retrain(config: TrainingConfig, after_epoch: EpochDone | None = None) -> TrainedModel:
    """Draw the sets, train, determine the operating points and evaluate.

    Args:
        config: See `TrainingConfig`.
        after_epoch: Called with the number of the epoch, from 1, and the network.
    """
    started = time.monotonic()
    data = _draw(TRAIN_SEED, config.images, config, blur=True)
    print(f"drew {config.images} phantoms in {time.monotonic() - started:.0f} s", flush=True)
    network, losses = train_network(config, data, after_epoch)
    trained_s = time.monotonic() - started

    validation = _draw(VALIDATION_SEED, config.validation_images, config, blur=True)
    _, raw_nk = infer(network, validation)
    thresholds = tuple(
        operating_point(raw_nk[:, k], validation.labels_nk[:, k]) for k in range(len(FINDINGS))
    )
    evaluation: dict[str, object] = {}
    for size_px, count in ((224, config.held_out_images), (config.large_px, config.large_images)):
        held_out = _draw(HELD_OUT_SEED, count, config, size_px=size_px)
        rows = evaluate(FINDINGS, *infer(network, held_out), thresholds, held_out)
        evaluation[f"drawn_at_{size_px}"] = [asdict(row) for row in rows]
        print(f"\n{count} held-out phantoms of {size_px} px\n{format_table(rows)}", flush=True)
    report: dict[str, object] = {
        "labels": list(FINDINGS),
        "thresholds": list(thresholds),
        "architecture": msgspec.to_builtins(net.ARCHITECTURE),
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
    return TrainedModel(state_of(network), thresholds, report)


def _draw(
    first: int, count: int, config: TrainingConfig, *, size_px: int = 224, blur: bool = False
) -> PhantomSet:
    seeds = range(first, first + count)
    return draw_set(seeds, size_px=size_px, blur=blur, workers=config.workers)


def write_training(config: TrainingConfig, output: Path) -> None:
    """Retrain and write the weights and the report; a checkpoint after each epoch meanwhile.

    Raises:
        OSError: The folder cannot be written.
    """
    output.mkdir(parents=True, exist_ok=True)
    checkpoint_path = output / "checkpoint.safetensors"

    def checkpoint(epoch: int, network: nn.Module) -> None:
        save_file(state_of(network), checkpoint_path, metadata={"epoch": str(epoch)})

    trained = retrain(config, checkpoint)
    save_file(trained.state_dict, output / WEIGHTS_NAME)
    (output / REPORT_NAME).write_text(json.dumps(trained.report, indent=2) + "\n")
    checkpoint_path.unlink(missing_ok=True)


_PURPOSES = {
    "images": "phantoms in the training set",
    "validation_images": "phantoms that determine the operating points",
    "held_out_images": "phantoms in the evaluation set",
    "large_images": "phantoms in the second evaluation set, drawn at --large-px and resized",
    "large_px": "side of these, pixels",
    "epochs": "epochs of plain classification",
    "focus_epochs": "epochs with a penalty on evidence far from the finding",
    "focus_weight": "weight of that penalty in the loss",
    "batch": "images per batch",
    "learning_rate": "peak learning rate of the first phase",
    "focus_learning_rate": "peak learning rate of the second phase",
    "seed": "seed of the initial weights and the order of images",
    "workers": "processes that draw",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `cxr-phantom train`: an option for each field of `TrainingConfig`."""
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder of weights and report"
    )
    for name, default in asdict(TrainingConfig()).items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            default=default,
            metavar="N",
            help=f"{_PURPOSES[name]} (default: %(default)s)",
        )


def run(args: argparse.Namespace) -> int:
    """Train and write the files. Returns the exit status."""
    names = asdict(TrainingConfig())
    write_training(TrainingConfig(**{name: getattr(args, name) for name in names}), args.output)
    return 0
