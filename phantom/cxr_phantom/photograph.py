"""Photograph: seeds -> `photograph.npz`, the server's check for photographs of films. Needs torch.

Trained on drawn films alone, seen in `film_scenes`.
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cxr_phantom.canvas import stream
from cxr_phantom.dataset import HELD_OUT_SEED, TRAIN_SEED, VALIDATION_SEED
from cxr_phantom.draw import draw_phantom
from cxr_phantom.film_scenes import SIDE_PX as SCENE_PX
from cxr_phantom.film_scenes import ordinary, photographed
from cxr_server.imaging.photograph import SIDE_PX, STRIDE, WEIGHTS_NAME, thumbnail

Thumbnails = NDArray[np.float32]
"""Of each film one row: `ORDINARY`, then `PHOTOGRAPHED`, then `CLOSE` ones, [films, 24, 64, 64]."""

ORDINARY, PHOTOGRAPHED, CLOSE = 14, 8, 2
FLAGGED_SHARE = 0.005
"""Share of the validation set's ordinary films that is above the threshold."""
CHANNELS, KERNELS_PX, HIDDEN = (8, 16, 24, 32), (5, 3, 3, 3), 16
BATCH, LEARNING_RATE, WEIGHT_DECAY, SEED = 64, 4e-3, 1e-2, 1
SCENE_STREAM = 70


class Network(nn.Module):
    """The network that `cxr_server.imaging.photograph.Network` describes."""

    def __init__(self) -> None:
        super().__init__()
        sizes = zip((1, *CHANNELS), CHANNELS, KERNELS_PX, strict=False)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, side, stride=STRIDE, padding=side // 2)
            for inputs, outputs, side in sizes
        )
        last = CHANNELS[-1] * (SIDE_PX // STRIDE ** len(CHANNELS)) ** 2
        self.dense = nn.ModuleList([nn.Linear(last, HIDDEN), nn.Linear(HIDDEN, 1)])

    def forward(self, thumbnails_nhw: Tensor) -> Tensor:
        """Return logits [N]."""
        maps_nchw = thumbnails_nhw[:, None].contiguous(memory_format=torch.channels_last)
        for convolution in self.convolutions:
            maps_nchw = functional.relu(convolution(maps_nchw))
        hidden = functional.relu(self.dense[0](maps_nchw.flatten(1)))
        logits: Tensor = self.dense[1](hidden)[:, 0]
        return logits


def thumbnails_of(seed: int) -> Thumbnails:
    """Draw the phantom of a seed and return thumbnails of it as it may be seen, [24, 64, 64]."""
    film_hw = np.float32(1 / 255) * draw_phantom(seed, size_px=SCENE_PX).pixels_hw
    rng = stream(seed, SCENE_STREAM)
    scenes = [ordinary(film_hw, rng) for _ in range(ORDINARY)]
    scenes += [photographed(film_hw, rng) for _ in range(PHOTOGRAPHED)]
    scenes += [photographed(film_hw, rng, close=True) for _ in range(CLOSE)]
    return np.stack([thumbnail(scene_hw) for scene_hw in scenes])


def drawn(first_seed: int, films: int, workers: int) -> Thumbnails:
    """Return the thumbnails of `films` drawn films."""
    seeds = range(first_seed, first_seed + films)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return np.stack(list(pool.map(thumbnails_of, seeds, chunksize=25)))


def train(thumbnails: Thumbnails, epochs: int) -> Network:
    """Return the trained network, in eval mode."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # the network is too small to share
    network = Network()
    images = torch.from_numpy(thumbnails.reshape(-1, SIDE_PX, SIDE_PX))
    labels = torch.tensor([0.0] * ORDINARY + [1.0] * (PHOTOGRAPHED + CLOSE))
    labels = labels.repeat(len(thumbnails))
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    batches = max(1, len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=epochs * batches + 1
    )
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(images))[: batches * BATCH].split(BATCH):  # type: ignore[no-untyped-call]
            seen = images[chosen].flip(2) if torch.rand(1) < 0.5 else images[chosen]
            loss = functional.binary_cross_entropy_with_logits(network(seen), labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / batches:.4f}", flush=True)
    return network.eval()


@torch.inference_mode()
def logits_of(network: Network, thumbnails: Thumbnails) -> NDArray[np.float32]:
    """Return the logits of all thumbnails, [films, 24]."""
    rows: Iterator[Tensor] = (network(torch.from_numpy(row)) for row in thumbnails)
    return torch.stack(list(rows)).numpy()


def write_network(output: Path, films: int, epochs: int, workers: int) -> None:
    """Train, choose the threshold, print the shares that are flagged, and write the file.

    `films` drawn films are trained on, a fifth as many choose the threshold, and as many others
    are what is printed.
    """
    checked = max(1, films // 5)
    network = train(drawn(TRAIN_SEED, films, workers), epochs)
    ordinary_logits = logits_of(network, drawn(VALIDATION_SEED, checked, workers))[:, :ORDINARY]
    threshold = np.quantile(ordinary_logits, 1 - FLAGGED_SHARE)
    flagged = logits_of(network, drawn(HELD_OUT_SEED, checked, workers)) > threshold
    ends = {
        "ordinary": ORDINARY,
        "photographed": ORDINARY + PHOTOGRAPHED,
        "close": flagged.shape[1],
    }
    start = 0
    for name, end in ends.items():
        part = flagged[:, start:end]
        print(f"{name:<14}{part.size:>6} flagged {part.mean():.4f}")
        start = end
    output.mkdir(parents=True, exist_ok=True)
    # 16 bits change no logit by more than rounding does, and halve the file.
    weights = {
        name: value.numpy().astype(np.float16) for name, value in network.state_dict().items()
    }
    np.savez_compressed(output / WEIGHTS_NAME, threshold=np.float32(threshold), **weights)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `cxr-phantom photograph`."""
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder of photograph.npz"
    )
    parser.add_argument(
        "--films",
        type=int,
        default=700,
        metavar="N",
        help="drawn films to train on (default: %(default)s)",
    )
    parser.add_argument(
        "--epochs", type=int, default=24, metavar="N", help="epochs (default: %(default)s)"
    )
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="processes that draw (default: 2)"
    )


def run(args: argparse.Namespace) -> int:
    """Train and write the file. Returns the exit status."""
    write_network(args.output, args.films, args.epochs, args.workers)
    return 0
