"""Without a number, a server takes as many calls as keep its engine busy."""

from dataclasses import replace

import pytest

from cxr_server.app import App
from cxr_server.bundles.load import Bundle
from cxr_server.inference.engines import Engine, EngineOptions
from cxr_server.inference.engines.registry import ENGINES
from cxr_server.settings import parse

FLAGS = ["--engine", "openvino", "--decode-processes", "0", "--decode-threads", "3"]


@pytest.fixture
def like_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine takes two batches of 64 images at once, as one on CUDA does."""
    spec = ENGINES["openvino"]

    def start(bundle: Bundle, options: EngineOptions) -> Engine:
        engine = spec.open(bundle, options)
        engine.max_batch, engine.max_in_flight = 64, 2
        return engine

    monkeypatch.setitem(ENGINES, "openvino", replace(spec, open=start))


@pytest.mark.usefixtures("like_a_gpu")
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], 2 * 64 * 2 + 3),  # one round runs, one is ready, three images are decoded
        (["--max-in-flight", "7"], 7),
    ],
    ids=["by itself", "given"],
)
async def test_the_calls_in_flight_follow_from_the_engine(flags: list[str], expected: int) -> None:
    app = App(parse([*FLAGS, *flags, "--listen", "127.0.0.1:0"], env={}))
    await app.service.load()
    described = app.service.describe()
    await app.service.close()
    assert app.admission.max_calls == described.max_in_flight_count == expected
    assert described.max_bulk_in_flight_count == expected // 2


async def test_a_small_engine_still_has_a_queue() -> None:
    app = App(parse([*FLAGS, "--listen", "127.0.0.1:0"], env={}))
    await app.service.load()
    await app.service.close()
    assert app.admission.max_calls == 64
