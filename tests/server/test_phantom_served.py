"""What the shipped phantom must do, measured on held-out drawings through the served RPC."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import rankdata

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_phantom.draw import Phantom, draw_phantom
from images import png

pytestmark = pytest.mark.slow

FINDINGS = ("Cardiomegaly", "Effusion", "Pneumothorax", "Nodule", "Mass", "Consolidation")
HELD_OUT = 900_000_000
"""Seeds from here on were never drawn for training or for the operating points."""
IMAGES = 300
SIZE_PX = 448


def held_out() -> Iterator[Phantom]:
    chance = np.random.default_rng(HELD_OUT)
    for number in range(IMAGES):
        planted = [name for name in FINDINGS if chance.random() < 0.3]
        yield draw_phantom(HELD_OUT + number, findings=planted, size_px=SIZE_PX)


@pytest.fixture(scope="module")
def answers(
    phantom_stub: ChestXrayServiceStub,
) -> list[tuple[Phantom, dict[str, pb.Explanation]]]:
    def ask(phantom: Phantom) -> dict[str, pb.Explanation]:
        reply = phantom_stub.Explain(
            pb.ExplainRequest(
                image=png(phantom.pixels_hw, compress_level=1),
                labels=FINDINGS,
                render=pb.RenderOptions(kind=pb.RENDER_KIND_NONE),
            )
        )
        return {each.finding.label: each for each in reply.explanations}

    with ThreadPoolExecutor(4) as pool:
        phantoms = list(held_out())
        return list(zip(phantoms, pool.map(ask, phantoms), strict=True))


@pytest.mark.parametrize("finding", FINDINGS)
def test_the_planted_finding_scores_above_the_others(
    answers: list[tuple[Phantom, dict[str, pb.Explanation]]], finding: str
) -> None:
    there = np.array([finding in phantom.masks for phantom, _ in answers])
    scores = np.array([reply[finding].finding.probability for _, reply in answers])
    ranks = rankdata(scores)
    pairs = there.sum() * (~there).sum()
    auc = (ranks[there].sum() - there.sum() * (there.sum() + 1) / 2) / pairs
    print(f"{finding}: AUC {auc:.4f}, {there.sum()} of {len(there)} planted")
    assert auc >= 0.97


@pytest.mark.parametrize("finding", FINDINGS)
def test_the_heat_peaks_on_the_planted_finding(
    answers: list[tuple[Phantom, dict[str, pb.Explanation]]], finding: str
) -> None:
    cell_px = SIZE_PX / 7
    on_target = []
    for phantom, reply in answers:
        explanation = reply[finding]
        if finding not in phantom.masks or not explanation.finding.above_threshold:
            continue
        distance_px = ndimage.distance_transform_edt(~phantom.masks[finding])
        row, column = int(explanation.peak.y_px), int(explanation.peak.x_px)
        on_target.append(distance_px[row, column] <= cell_px)
    print(f"{finding}: {sum(on_target)} of {len(on_target)} peaks within a cell")
    assert len(on_target) >= 40
    assert np.mean(on_target) >= 0.95
