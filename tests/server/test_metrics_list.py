"""What the metrics port exports, as docs/metrics.md lists it, and the truth of its two probes."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cxr.v1 import chest_xray_pb2 as pb
from cxr_server.imaging.radiograph import InputWarning
from cxr_server.lifecycle import Phase
from cxr_server.observability import event_loop
from metrics_table import Exporting, rows, rows_in_page
from readme_tables import reasons
from trust import certificates

OK, UNAVAILABLE = HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE


@pytest.fixture
async def exporting(tmp_path: Path) -> AsyncIterator[Exporting]:
    """A server that has not loaded its model."""
    exporting = Exporting(tmp_path)
    await exporting.app.start()
    yield exporting
    await exporting.app.close()


async def values(exporting: Exporting, name: str, label: str) -> dict[str, float]:
    """The samples of a metric by the value of one label."""
    _, page = await exporting.get("/metrics")
    families = text_string_to_metric_families(page)
    samples = (sample for family in families for sample in family.samples)
    return {each.labels[label]: each.value for each in samples if each.name == name}


async def test_every_metric_is_listed_with_its_type_labels_unit_and_meaning(
    exporting: Exporting,
) -> None:
    await exporting.app.load()
    async with exporting.stub() as stub:
        await stub.DescribeModel(pb.DescribeModelRequest(), metadata=exporting.metadata)
    _, page = await exporting.get("/metrics")
    assert sorted(rows(page)) == sorted(rows_in_page())
    assert "_created" not in page
    # Whatever is known beforehand is there before it happens.
    refused = await values(exporting, "cxr_calls_refused_total", "reason")
    assert set(refused) == {kind.reason for kind in reasons()}
    warnings = await values(exporting, "cxr_warnings_total", "code")
    assert set(warnings) == set(InputWarning)
    statuses = await values(
        exporting, "rpc_server_call_duration_seconds_count", "rpc_response_status_code"
    )
    assert {"OK", "CANCELLED", "INTERNAL", *(kind.status for kind in reasons())} == set(statuses)
    # The certificates of the test authority are valid for an hour.
    expiries = await values(exporting, "cxr_certificate_expiry_timestamp_seconds", "certificate")
    assert set(expiries) == {"server", "client_ca"}
    assert all(0 < expiry - time.time() < 3601 for expiry in expiries.values())


async def test_the_probes_tell_the_phase_and_whether_the_event_loop_runs(
    exporting: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    get, lifecycle = exporting.get, exporting.app.lifecycle
    assert await get("/healthz") == (OK, "LOADING\n")
    assert await get("/readyz") == (UNAVAILABLE, "LOADING\n")
    assert (await values(exporting, "cxr_phase", "phase"))["LOADING"] == 1
    assert (await get("/"))[0] == HTTPStatus.NOT_FOUND
    lifecycle.enter(Phase.SERVING)
    assert await get("/readyz") == await get("/healthz") == (OK, "SERVING\n")
    assert (await values(exporting, "cxr_phase", "phase"))["LOADING"] == 0
    monkeypatch.setattr(event_loop, "STUCK_AFTER_S", -1.0)  # whatever the loop does is too late
    for page in ("/healthz", "/readyz"):
        assert await get(page) == (UNAVAILABLE, "the event loop does not run\n")
    monkeypatch.undo()
    lifecycle.enter(Phase.FAILED)  # the engine is being replaced
    assert (await get("/healthz"))[0] == OK
    assert (await get("/readyz"))[0] == UNAVAILABLE
    lifecycle.enter(Phase.LAME_DUCK)
    assert await get("/healthz") == (OK, "LAME_DUCK\n")
    assert await get("/readyz") == (UNAVAILABLE, "LAME_DUCK\n")
    lifecycle.given_up.set()
    assert (await get("/healthz"))[0] == UNAVAILABLE


async def test_the_expiry_is_that_of_the_certificate_in_use_also_when_it_has_passed(
    exporting: Exporting, tmp_path: Path
) -> None:
    other = certificates.Authority(tmp_path / "other", "another CA")
    pair = other.sign(tmp_path / "expired", "server", -timedelta(minutes=5))
    for name, file in zip(("server.pem", "server.key"), pair, strict=True):
        (exporting.files / name).write_bytes(file.read_bytes())
    await asyncio.to_thread(exporting.app.server.reload)
    expiries = await values(exporting, "cxr_certificate_expiry_timestamp_seconds", "certificate")
    assert expiries["server"] < time.time() < expiries["client_ca"]
    failures = await values(exporting, "cxr_reload_failures_total", "files")
    assert not any(failures.values())


async def test_a_file_that_cannot_be_reloaded_is_counted(exporting: Exporting) -> None:
    (exporting.files / "tokens").write_text("no token\n")
    (exporting.files / "server.pem").unlink()
    await asyncio.to_thread(exporting.app.server.reload)
    failures = await values(exporting, "cxr_reload_failures_total", "files")
    assert failures == {"tokens": 1, "admin tokens": 0, "certificates": 1, "audit file": 0}
