"""Embedding and typicality in the answers of a served phantom."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_client import Client
from cxr_server.bundles.load import Bundle
from cxr_server.bundles.store import SAMPLES_PATH
from images import chest_like, png
from serving import ServerProcess

FILM = (SAMPLES_PATH / "phantom-effusion-1.png").read_bytes()


def test_the_linear_map_of_the_embedding_gives_the_logits(
    phantom_stub: ChestXrayServiceStub, phantom_bundle: Bundle
) -> None:
    request = pb.PredictRequest(image=FILM, top_k=99, include_embedding=True)
    reply = phantom_stub.Predict(request)
    weights = load_file(phantom_bundle.file("weights.safetensors"))
    logits = weights["classifier.weight"] @ reply.embedding + weights["classifier.bias"]
    for finding in reply.findings:
        expected = 1 / (1 + np.exp(-logits[finding.class_index]))
        assert finding.probability == pytest.approx(expected, abs=1e-4)
    explained = phantom_stub.Explain(pb.ExplainRequest(image=FILM, include_embedding=True))
    assert explained.timing.evidence_cached
    assert explained.embedding == reply.embedding
    assert explained.typicality == reply.typicality


def test_an_embedding_is_returned_only_if_it_was_asked_for(
    phantom_stub: ChestXrayServiceStub,
) -> None:
    assert not phantom_stub.Predict(pb.PredictRequest(image=FILM)).embedding
    assert not phantom_stub.Explain(pb.ExplainRequest(image=FILM)).embedding


def test_a_drawn_film_is_typical_and_another_picture_is_warned_of_also_from_the_cache(
    phantom_stub: ChestXrayServiceStub,
) -> None:
    drawn = phantom_stub.Predict(pb.PredictRequest(image=FILM))
    assert drawn.typicality > 0.02
    assert pb.WARNING_CODE_UNTYPICAL_IMAGE not in [each.code for each in drawn.warnings]
    other = png(chest_like(256, 256, seed=77))
    for _ in range(2):
        reply = phantom_stub.Predict(pb.PredictRequest(image=other, strict_input=True))
        assert reply.HasField("typicality")
        assert reply.typicality < 0.02
        assert pb.WARNING_CODE_UNTYPICAL_IMAGE in [each.code for each in reply.warnings]


def test_the_client_returns_both(phantom_server: ServerProcess) -> None:
    with Client(phantom_server.address) as client:
        prediction = client.predict(FILM, include_embedding=True)
        explained = client.explain(FILM, include_embedding=True)
        plain = client.predict(FILM)
    assert prediction.typicality is not None
    assert 0.02 < prediction.typicality <= 1
    assert len(prediction.embedding) > 10
    assert explained.embedding == prediction.embedding
    assert plain.embedding == ()
