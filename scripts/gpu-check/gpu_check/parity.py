"""Step 4: scores on the GPU against float32 on the CPU, for the phantom and a DenseNet-121."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cxr_server.bundles.load import Bundle, load_bundle
from cxr_server.bundles.store import PHANTOM, resolve
from cxr_server.inference.engines import Engine
from cxr_server.inference.engines.torch.engine import TorchEngine
from cxr_server.inference.engines.torch.network import EvidenceNet, load_module
from cxr_server.inference.scoring import findings
from cxr_server.inference.verify import TOLERANCE, verify_engine
from gpu_check.assets import bundle
from gpu_check.common import CPU, DEVICE, Attempts, record, rounded
from gpu_check.timing import use_tf32
from random_models import random_images

SIZES = (1, 2) if CPU else None
COUNT, BATCHES, MOST = (2, 4, 3) if CPU else (8, 200, 70)
"""Images, batches of the test with threads, and images in the largest of those."""
NETS = {
    "half": (torch.float16, False),
    "bfloat16": (torch.bfloat16, False),
    "float32 with TF32": (torch.float32, True),
}
"""Arithmetic that is only reported: its type, and whether it uses TF32."""


def extremes(bundle: Bundle) -> NDArray[np.float32]:
    """Return black, grey and white images and one of noise at full contrast."""
    side_px = bundle.manifest.input_side_px
    flat = [np.full((1, side_px, side_px), value, np.float32) for value in (-1024, 0, 1024)]
    noise = np.random.default_rng(0).choice((-1024, 1024), (1, side_px, side_px))
    return np.stack([*flat, noise.astype(np.float32)])


def scores(engine: Engine, bundle: Bundle, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the scores [N, K]."""
    return scores_of(engine.evidence(images), bundle)


def scores_of(evidence_nkhw: NDArray[np.float32], bundle: Bundle) -> NDArray[np.float64]:
    """Return the scores [N, K] of evidence."""
    manifest = bundle.manifest
    return np.array([[f.score for f in findings(e, manifest)] for e in evidence_nkhw])


def difference(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """Return the largest difference. Raises ValueError if a score is not finite."""
    if not np.isfinite(found).all():
        raise ValueError("a score is not finite")
    return rounded(np.abs(found - expected).max())


def check_scores(bundle: Bundle) -> dict[str, Any]:
    """Compare scores of single images, batches, threads and precisions.

    Raises ValueError if float32 differs by more than engines may.
    """
    images = random_images(COUNT, seed=7).numpy()
    reference = TorchEngine(bundle, device="cpu", threads=torch.get_num_threads())
    expected = scores(reference, bundle, images)
    started = time.monotonic()
    engine = TorchEngine(bundle, device="cuda:0", batch_sizes=SIZES)
    found: dict[str, Any] = {"engine started, s": round(time.monotonic() - started, 2)}
    batch = scores(engine, bundle, images)
    found["float32"] = difference(batch, expected)
    expected_extremes = scores(reference, bundle, extremes(bundle))
    found["extremes"] = difference(scores(engine, bundle, extremes(bundle)), expected_extremes)
    found["probe"] = verify_engine(engine, bundle)
    alone = np.concatenate([scores(engine, bundle, image[None]) for image in images])
    found["single images against a batch"] = difference(alone, batch)
    rng = np.random.default_rng(1)
    orders = [rng.integers(0, len(images), size) for size in rng.integers(1, MOST, BATCHES)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda order: scores(engine, bundle, images[order]), orders))
    found["four threads"] = max(
        difference(result, batch[order]) for result, order in zip(results, orders, strict=True)
    )
    engine.close()
    worst = max(found[name] or 0.0 for name in ("float32", "extremes", "four threads", "probe"))
    if worst > TOLERANCE:
        raise ValueError(f"scores differ by {worst}, allowed are {TOLERANCE}: {found}")
    module = load_module(bundle)
    for name, (dtype, tf32) in NETS.items():
        use_tf32(tf32)
        net = EvidenceNet(module, DEVICE, dtype)
        with torch.inference_mode():
            evidence_nkhw = net(torch.from_numpy(images).to(DEVICE))[0].cpu().numpy()
        found[name] = difference(scores_of(evidence_nkhw, bundle), expected)
    use_tf32(False)
    return found


def check_saliency(bundle: Bundle) -> dict[str, Any]:
    """Compare saliency maps, and time them in the first and in another thread."""
    image_chw = random_images(1, seed=7).numpy()[0]
    reference = TorchEngine(bundle, device="cpu")
    engine = TorchEngine(bundle, device="cuda:0", batch_sizes=(1,))
    found = {}
    for method in engine.saliency_methods[: 1 if CPU else None]:
        seconds = []
        with ThreadPoolExecutor(1) as other:  # cuDNN's choices are cached per thread
            for call in (engine.saliency, engine.saliency, other.submit):
                started = time.monotonic()
                if call is other.submit:
                    other.submit(engine.saliency, image_chw, 0, method).result()
                else:
                    heat_hw = engine.saliency(image_chw, 0, method)
                seconds.append(round(time.monotonic() - started, 3))
        expected_hw = reference.saliency(image_chw, 0, method)
        found[method] = {
            "against the CPU": rounded(np.abs(heat_hw - expected_hw).max()),
            "first, second, in another thread, s": seconds,
        }
    engine.close()
    return found


def main() -> int:
    """Run the step."""
    if CPU:
        from gpu_check import fakes

        fakes.install()
    attempts = Attempts("parity")
    phantom = load_bundle(resolve(PHANTOM, None))
    for each in (phantom,) if CPU else (phantom, bundle()):
        name = each.manifest.name
        with attempts.part(name):
            found = check_scores(each)
            record("parity", name, found)
        if attempts.has_time(f"{name}, saliency", 10):
            with attempts.part(f"{name}, saliency"):
                record("parity", f"{name}, saliency", check_saliency(each))
    return attempts.status()


if __name__ == "__main__":
    sys.exit(main())
