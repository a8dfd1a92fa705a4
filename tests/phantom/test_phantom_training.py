"""The network's evidence, and what a short training learns.

Every training here has a fixed number of steps; the time limit is only for a machine that hangs.
"""

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from cxr_phantom.__main__ import main
from cxr_phantom.dataset import PhantomSet, draw_set
from cxr_phantom.findings import FINDINGS

pytestmark = [pytest.mark.torch, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other are slow on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def drawn() -> PhantomSet:
    return draw_set(range(1000, 1064))


def first(data: PhantomSet, count: int) -> PhantomSet:
    return PhantomSet(*(getattr(data, field.name)[:count] for field in fields(PhantomSet)))


def test_mean_evidence_plus_bias_is_the_logit_of_torchxrayvisions_own_forward(
    drawn: PhantomSet,
) -> None:
    import torch

    from cxr_phantom import network as net

    torch.manual_seed(0)
    network = net.build_network().eval()
    images = net.normalize(torch.from_numpy(drawn.pixels_nhw[:4]))
    assert images.min() >= -1024
    assert images.max() <= 1024
    with torch.inference_mode():
        evidence = net.class_evidence(network, images)
        assert evidence.shape == (4, 6, 7, 7)
        torch.testing.assert_close(
            net.logits(network, evidence), network(images), rtol=1e-4, atol=1e-4
        )


def test_stray_evidence_is_the_fraction_outside_and_ignores_absent_findings() -> None:
    import torch

    from cxr_phantom.network import stray_evidence

    evidence = torch.full((1, 2, 7, 7), -5.0)
    evidence[0, 0, 0, 0], evidence[0, 0, 3, 3], evidence[0, 1, 6, 6] = 1.0, 3.0, 9.0
    near = torch.zeros((1, 2, 7, 7), dtype=torch.bool)
    near[0, 0, 3, 3] = True
    labels = torch.tensor([[True, False]])
    assert stray_evidence(evidence, near, labels).item() == pytest.approx(0.25, abs=1e-3)


def test_a_short_training_lowers_the_loss(drawn: PhantomSet) -> None:
    from cxr_phantom.train import TrainingConfig, train_network

    config = TrainingConfig(epochs=4, focus_epochs=0, batch=8)
    _, losses = train_network(config, drawn)
    assert losses[-1]["bce"] < 0.85 * losses[0]["bce"]


def test_the_same_seed_trains_the_same_weights(drawn: PhantomSet) -> None:
    import torch

    from cxr_phantom.train import TrainingConfig, state_of, train_network

    def trained(seed: int) -> dict[str, torch.Tensor]:
        config = TrainingConfig(epochs=1, focus_epochs=1, batch=8, seed=seed)
        return state_of(train_network(config, first(drawn, 24))[0])

    once, again, other = trained(1), trained(1), trained(2)
    for name, value in again.items():
        torch.testing.assert_close(value, once[name], rtol=0, atol=0)
    assert not torch.equal(other["classifier.weight"], once["classifier.weight"])


def test_what_train_writes_pack_makes_a_bundle_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file

    from cxr_phantom import network as net
    from cxr_server.bundles.load import load_bundle

    sets = "--images 32 --validation-images 24 --held-out-images 24 --large-images 16"
    steps = "--large-px 240 --epochs 1 --focus-epochs 1 --batch 8 --workers 1"
    source, bundle = tmp_path / "trained", tmp_path / "bundle"
    assert main(["train", "--output", str(source), *sets.split(), *steps.split()]) == 0
    assert sorted(p.name for p in source.iterdir()) == ["training.json", "weights.safetensors"]
    report = json.loads((source / "training.json").read_text())
    assert report["labels"] == list(FINDINGS)
    assert all(0 < threshold < 1 for threshold in report["thresholds"])
    assert len(report["epoch_losses"]) == 2
    net.build_network().load_state_dict(load_file(source / "weights.safetensors"))

    assert main(["pack", str(source), str(bundle)]) == 0
    manifest = load_bundle(bundle).manifest
    assert manifest.phantom
    assert tuple(manifest.labels) == FINDINGS
    assert manifest.thresholds == pytest.approx(report["thresholds"], abs=1e-6)

    assert main(["pack", str(bundle), str(tmp_path / "again")]) == 0
    again = load_bundle(tmp_path / "again").manifest
    assert again.weights_sha256 == manifest.weights_sha256
    assert (again.probe, again.create_time) == (manifest.probe, manifest.create_time)

    report["labels"].pop()
    (source / "training.json").write_text(json.dumps(report))
    capsys.readouterr()
    assert main(["pack", str(source), str(bundle)]) == 1
    assert "number of labels" in capsys.readouterr().err
    assert load_bundle(bundle).manifest == manifest, "the bundle before is still there"
