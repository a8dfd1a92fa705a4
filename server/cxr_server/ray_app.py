"""Ray: the server as an application of Ray Serve in its HA mode, where Ray listens; extra `ray`.

    serve.run(application(Settings(...), num_replicas=2))   # in Python
    import_path: cxr_server.ray_app:build                   # in a configuration file

docs/how-to/run-on-ray.md has the environment that Ray needs, and what it cannot do.
"""

import asyncio
import logging
import os
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import structlog

from cxr_server.app import App
from cxr_server.inference import allocator
from cxr_server.observability import logs, tracing
from cxr_server.preflight import PREFLIGHT, check_listen
from cxr_server.resources import LEAST_CALLS
from cxr_server.rpc import servicer
from cxr_server.rpc.hosted import CHECK, Hosted
from cxr_server.settings import (
    MIB,
    Address,
    Settings,
    SettingsError,
    from_arguments,
    options,
)
from cxr_server.settings.checks import CHECKS

HA_MODE = "RAY_SERVE_ENABLE_HA_PROXY"
STOPPING_S = 60.0
"""What a replica has to stop beside its grace: Ray leaves it reachable for 30 s at first."""
WATCH_S = 10.0
"""How long a Watch lasts without news. Clients start another one; an open one would hold Ray up."""

_NEEDED = {
    "engine_threads": "a replica shares its node, so say how many cores it has",
    "memory_budget_mib": "a replica shares its node, so say how much memory it has",
    "insecure": "Ray listens in plaintext on every address; say that the network is trusted",
}
_NOT_KEPT = {
    "listen": "Ray listens, see grpc_options",
    "health_listen": "Ray's port answers grpc.health.v1",
    "admin_listen": "a swap would reach one replica alone; deploy another model instead",
    "admin_tokens_file": "there is no --admin-listen on Ray",
    "tls_cert": "Ray listens in plaintext; end TLS in front of it",
    "tls_key": "Ray listens in plaintext; end TLS in front of it",
    "tls_client_ca": "Ray listens in plaintext; end TLS in front of it",
    "upload_timeout_s": "Ray receives the requests",
    "reflection": "Ray always serves it",
    "open_inference": "the adapter serves the contract alone",
    "drain_pause_s": "Ray takes a replica out of use before it stops it",
    "audit_file": "replicas cannot be told to open it again after a rotation",
}
log = structlog.get_logger("cxr_server")


def application(settings: Settings, **deployment: Any) -> Any:
    """Return the application for `serve.run`.

    `deployment` are further options of Ray's deployments, such as `num_replicas=2`; of
    `ray_actor_options`, those that are given take the place of the derived ones.

    Raises:
        SettingsError: Ray cannot keep a setting, or a replica needs one that is not given.
    """
    check(settings)
    from ray import serve

    reserved = {
        "num_cpus": settings.engine_threads,
        "num_gpus": int(settings.device.startswith("cuda")),
        "memory": settings.memory_budget_mib * MIB,
    }
    derived = {
        "name": "ChestXray",
        # The server's own limits refuse first, and say when to try again.
        "max_ongoing_requests": 1000 + 10 * max(settings.max_in_flight, LEAST_CALLS),
        "max_queued_requests": -1,
        "graceful_shutdown_timeout_s": settings.grace_s + STOPPING_S,
        "health_check_period_s": 5.0,
    }
    reserved |= deployment.pop("ray_actor_options", {})
    options = derived | deployment | {"ray_actor_options": reserved}
    return serve.deployment(Replica).options(**options).bind(settings)


def build(args: dict[str, Any]) -> Any:
    """Return the application for the `args` of a configuration file: settings by name.

    Variables `CXR_*` give those that are not in it. Raises SettingsError.
    """
    known = {option.name for option in options()}
    if unknown := ", ".join(sorted(args.keys() - known)):
        raise SettingsError(f"no such setting: {unknown}")
    texts = {
        name: value if isinstance(value, bool | list) else str(value)
        for name, value in args.items()
        if value is not None  # as YAML has a key without a value
    }
    return application(from_arguments(Namespace(**texts)))


def check(settings: Settings) -> None:
    """Check the settings, and that Ray can keep them. Raises SettingsError."""
    for each in CHECKS.values():
        each(settings)
    told = settings.told
    for name, why in _NEEDED.items():
        if not getattr(settings, name):
            raise SettingsError(f"{told(name)}: {why}")
    for option in options():
        if option.name in _NOT_KEPT and getattr(settings, option.name) != option.default:
            raise SettingsError(f"{told(option.name)}, on Ray: {_NOT_KEPT[option.name]}")
    if settings.metrics_listen and Address.parse(settings.metrics_listen).port:
        raise SettingsError(f"{told('metrics_listen')}: replicas share a node; give port 0")
    if settings.device.startswith("cuda") and settings.device not in ("cuda", "cuda:0"):
        raise SettingsError(f"{told('device')}: Ray shows a replica its own GPU alone; give cuda")


class Replica:
    """A server without a port: Ray calls the method of each RPC, and those that it looks for."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]
        from ray import serve

        replica = serve.get_replica_context().replica_id.unique_id
        if os.environ.get(HA_MODE) != "1":
            raise SettingsError(f"{HA_MODE}=1 must be in the environment of every node")
        logs.configure(settings.log_format, settings.log_level, replica=replica)
        _keep_to_files(logging.getLogger("ray.serve"))
        allocator.keep_freed_memory()
        decoders = settings.decode_threads or settings.engine_threads  # the cores of the replica
        settings = replace(settings, decode_threads=decoders)
        for preflight in PREFLIGHT:
            if preflight.run is not check_listen:  # Ray listens
                for doubt in preflight.run(settings):
                    log.warning("doubtful setting", detail=doubt)
        self._app = app = App(settings, tracing.start(os.environ))
        self._methods = Hosted(app.server)
        app.expose_metrics()
        await app.load()
        log.info("serving", metrics_port=app.metrics_port, loaded_s=app.lifecycle.uptime_s)

    async def Predict(self, request: Any, grpc_context: Any) -> Any:
        """Score every finding."""
        return await self._methods.answer(servicer.PREDICT, request, grpc_context)

    async def Explain(self, request: Any, grpc_context: Any) -> Any:
        """Map the evidence of findings."""
        return await self._methods.answer(servicer.EXPLAIN, request, grpc_context)

    async def Health(self, request: Any, grpc_context: Any) -> Any:
        """Report the state of this replica."""
        return await self._methods.answer(servicer.HEALTH, request, grpc_context)

    async def DescribeModel(self, request: Any, grpc_context: Any) -> Any:
        """Describe the model, the limits and the options."""
        return await self._methods.answer(servicer.DESCRIBE_MODEL, request, grpc_context)

    async def Check(self, request: Any, grpc_context: Any) -> Any:
        """Return the status of this replica, as of `grpc.health.v1`."""
        return await self._methods.answer(CHECK, request, grpc_context)

    async def Watch(self, request: Any, grpc_context: Any) -> AsyncIterator[Any]:
        """Send the status of this replica and each change of it, as of `grpc.health.v1`."""
        answers = self._methods.watch(request, grpc_context)
        with suppress(TimeoutError, StopAsyncIteration):
            while True:
                yield await asyncio.wait_for(anext(answers), WATCH_S)

    async def check_health(self) -> None:
        """Raise once the model cannot be restored, so that Ray replaces the replica."""
        if self._app.lifecycle.given_up.is_set():
            raise RuntimeError("the model could not be restored")

    async def __del__(self) -> None:
        """Finish the calls in flight and release the engine."""
        await self._app.drain()


def _keep_to_files(logger: logging.Logger) -> None:
    """Have a logger no longer write to stderr, where its lines, one a call, would be warnings."""
    for handler in tuple(logger.handlers):
        if type(handler) is logging.StreamHandler:
            logger.removeHandler(handler)
