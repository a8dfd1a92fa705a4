"""The metrics, the dashboard and the rules, read by a real promtool and a real Prometheus."""

import json
import re
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
import yaml

from authority import Authority
from cxr_client import Client, CxrError, RetryConfig, TLSConfig
from cxr_server.access import new_token
from images import chest_like, png
from operations.prometheus import ROOT, RULES, Prometheus
from operations.tools import program
from serving import ServerProcess
from trust.ports import free_port

pytestmark = pytest.mark.operations
BOARD = ROOT / "deploy" / "grafana" / "cxr-serve.json"
CALLERS, LOAD_S = 8, 20.0
VARIABLES = {"$__rate_interval": "15s", "$job": ".*", "$instance": ".*"}
QUIET = {  # what stays at zero while nothing goes wrong
    "Failing",
    "Failures and rebuilds",
    "Given up by callers",
    "Lost lines and failed reloads",
}


class Loaded(NamedTuple):
    """A server under load since a time, and what scrapes it."""

    prometheus: Prometheus
    metrics: str
    start_s: float


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    folder = tmp_path_factory.mktemp("prometheus")
    files, (token, line) = Authority(folder).folder, new_token("ward-3")
    (folder / "tokens").write_text(line)
    metrics = f"127.0.0.1:{free_port()}"
    flags = ["--metrics-listen", metrics, "--tokens-file", str(folder / "tokens")]
    flags += ["--tls-cert", str(files / "server.pem"), "--tls-key", str(files / "server.key")]
    flags += ["--max-in-flight", "4"]
    with ServerProcess(*flags) as server, Prometheus(metrics, folder) as prometheus:
        start_s = time.time()
        ends = time.monotonic() + LOAD_S
        tls = TLSConfig(ca=files / "ca.pem")
        callers = [
            threading.Thread(target=call, args=(server.address, tls, token, number, ends))
            for number in range(CALLERS)
        ]
        for each in callers:
            each.start()
        for each in callers:
            each.join()
        yield Loaded(prometheus, metrics, start_s)
        assert server.stop() == 0


def call(address: str, tls: TLSConfig, token: str, number: int, ends: float) -> None:
    """Ask with an image of its own each time, so that the cache does not take the load."""
    priority: Literal["bulk", "interactive"] = "bulk" if number % 2 else "interactive"
    once = RetryConfig(max_attempts=1)
    with (
        Client(address, tls=tls, token=token, retry=once, priority=priority) as client,
        Client(address, tls=tls, token="wrong", retry=once) as stranger,
    ):
        seed = number
        while time.monotonic() < ends:
            image = png(chest_like(seed=seed))
            asks: list[Callable[[], Any]] = [
                lambda image=image: client.predict(image),
                lambda image=image: client.explain(image),
                lambda: client.predict(b""),
                client.health,
                stranger.health,
            ]
            for ask in asks:
                with suppress(CxrError):
                    ask()
            seed += CALLERS


def test_the_committed_dashboard_is_what_its_code_makes() -> None:
    python = Path(program("kubernetes-validate")).with_name("python")
    command = [str(python), str(BOARD.parent / "dashboard.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == BOARD.read_text(), "run make dashboard"


def test_promtool_finds_no_fault_in_rules_and_configuration() -> None:
    for words in (
        ["check", "rules", str(RULES)],
        ["check", "config", str(RULES.with_name("prometheus.yml"))],
        ["test", "rules", str(Path(__file__).with_name("rules_test.yml"))],
    ):
        done = subprocess.run([program("promtool"), *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_no_fault_in_the_metrics(loaded: Loaded) -> None:
    with urllib.request.urlopen(f"http://{loaded.metrics}/metrics", timeout=30) as response:
        exposition = response.read()
    command = [program("promtool"), "check", "metrics"]
    done = subprocess.run(command, input=exposition, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_every_expression_of_the_dashboard_has_an_answer_under_load(loaded: Loaded) -> None:
    empty, still, asked = [], [], 0
    for panel in json.loads(BOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            expr = target["expr"]
            for name, value in VARIABLES.items():
                expr = expr.replace(name, value)
            assert "$" not in expr
            found, asked = loaded.prometheus.values(expr, loaded.start_s), asked + 1
            if not found:
                empty.append((panel["title"], expr))
            elif panel["title"] not in QUIET and max(found) <= 0:
                still.append((panel["title"], expr))
    assert asked > 40
    assert (empty, still) == ([], [])


def test_every_variable_of_the_dashboard_has_values(loaded: Loaded) -> None:
    variables = json.loads(BOARD.read_text())["templating"]["list"]
    queries = {each["name"]: each["query"] for each in variables if each["type"] == "query"}
    assert set(queries) == {"job", "instance"}
    for query in queries.values():
        series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()  # type: ignore[union-attr]
        matching = {"match[]": series.replace("$job", ".*")}
        assert loaded.prometheus.get(f"label/{label}/values", **matching)


def test_every_rule_is_evaluated_and_has_an_answer_under_load(loaded: Loaded) -> None:
    groups = loaded.prometheus.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    written = [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]
    assert len(rules) == len(written) > 15
    empty = []
    for rule in written:
        expr, changes = rule["expr"], "alert" in rule
        if changes:  # whether it holds, in place of those for which it holds
            expr, count = re.subn(r" (==|<|>) (?=[^<>={}]*$)", r" \1 bool ", expr)
            assert count == 1, expr
        if not loaded.prometheus.values(expr, loaded.start_s):
            empty.append(expr)
    assert empty == []
    # The load is more than four calls at once, and the test's certificate lasts an hour.
    firing = loaded.prometheus.values('ALERTS{alertstate="firing"}', loaded.start_s)
    assert firing
