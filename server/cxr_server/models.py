"""Models: the models that a server serves, by name; loads them, and swaps one for another."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from cxr_server.bundles.load import Bundle, load_bundle
from cxr_server.bundles.manifest import BundleError
from cxr_server.bundles.store import resolve, resolve_all
from cxr_server.errors import Draining
from cxr_server.inference import threads
from cxr_server.interactive_calls import InteractiveCalls
from cxr_server.lifecycle import Lifecycle
from cxr_server.memory import Memory
from cxr_server.model import ServedModel, ServingModel
from cxr_server.observability.metrics import Metrics
from cxr_server.resources import LEAST_CALLS, Resources, busy_calls
from cxr_server.settings import Settings

log = structlog.get_logger("cxr_server")


@dataclass(frozen=True, slots=True)
class Swapped:
    """What a swap has changed, and the seconds that loading took."""

    now: ServedModel
    before: ServedModel
    load_s: float


class Models:
    """The models by the names that callers ask for, the default first.

    They share `resources`, and each has an engine, a queue and a cache of its own.
    """

    def __init__(
        self,
        settings: Settings,
        memory: Memory,
        lifecycle: Lifecycle,
        metrics: Metrics,
        warm_up: Callable[[ServingModel], Awaitable[None]],
        image_key: bytes,
        interactive: InteractiveCalls,
    ) -> None:
        self._settings = settings
        self._memory = memory
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._warm_up = warm_up
        self._image_key = image_key
        self._interactive = interactive
        self._models: dict[str, ServingModel] = {}
        self._resources: Resources | None = None
        self._swapping = asyncio.Lock()
        self.max_calls = settings.max_in_flight or LEAST_CALLS
        """The most calls for all models in flight: unless it is given, what keeps them busy."""
        self._swaps: set[asyncio.Task[Swapped]] = set()
        self._is_settled = True  # what the models take was measured while no call held memory
        self.load_seconds: dict[str, float] = {}
        """How long loading took, warming up included, by name."""

    def __iter__(self) -> Iterator[tuple[str, ServingModel]]:
        """Yield name and model, the default first."""
        return iter(self._models.items())

    def __len__(self) -> int:
        return len(self._models)

    @property
    def default(self) -> str:
        """Name of the default model, "" before the models are loaded."""
        return next(iter(self._models), "")

    def get(self, name: str) -> ServingModel | None:
        """Return the model of a name, "" for the default. None if there is none."""
        return self._models.get(name or self.default)

    async def load(self) -> None:
        """Load every model that the settings name.

        Raises BundleError, EngineUnavailable and DecodeProcessesUnavailable; nothing is left then.
        """
        loaded: dict[str, ServingModel] = {}
        try:
            bundles = await threads.run("loading", self._bundles)
            side_px = max(bundle.manifest.input_side_px for bundle in bundles.values())
            resources = Resources(
                self._settings, self._memory, side_px, self._metrics, self._interactive
            )
            self._resources = resources
            if resources.in_processes:  # beside the engines, which take longer
                resources.processes.start()
            for name, bundle in bundles.items():
                start_s = time.monotonic()
                loaded[name] = await self._start(bundle, resources)
                self.load_seconds[name] = time.monotonic() - start_s
            self._settle(loaded)
        except BaseException:
            await self._close(loaded)
            raise
        self._models = loaded

    async def swap(self, name: str, bundle_name: str, grace_s: float) -> Swapped:
        """Load and verify a bundle, serve it under a name in use, and close the old model.

        Calls that use the old model are answered by it; those that have not ended after `grace_s`
        fail. If loading fails, nothing changes. Swaps run one after the other, so that at most one
        additional model is in memory.

        If this is cancelled before the new model is served, nothing changes either, and what was
        loaded is closed. If it is cancelled later, only the wait for the old model's calls ends.

        Raises:
            BundleError: There is no such name, the bundle is not valid, or its input is larger
                than those for which this server was started.
            EngineUnavailable: No engine starts, or it does not compute the scores that the bundle
                states.
            Draining: The server is shutting down.
        """
        gone = asyncio.Event()
        swap = asyncio.create_task(self._swap(name, bundle_name, grace_s, gone))
        self._swaps.add(swap)
        swap.add_done_callback(self._swaps.discard)
        try:
            return await asyncio.shield(swap)
        finally:
            gone.set()

    def settle(self) -> None:
        """In a pause without calls, measure again what the models take, if one was swapped.

        What was measured at the swap has in it what calls in flight held.
        """
        if not self._is_settled and not self._swapping.locked():
            self._settle(self._models)
            self._is_settled = True

    async def close(self) -> None:
        """Fail what waits, finish what runs but maps, and release the engines."""
        if swaps := [*self._swaps]:
            for swap in swaps:
                swap.cancel()
            await asyncio.wait(swaps)
        await self._close(self._models)

    async def _swap(
        self, name: str, bundle_name: str, grace_s: float, gone: asyncio.Event
    ) -> Swapped:
        """Do what `swap` says, until `gone` is set, and then clear up."""
        async with self._swapping:
            self._refuse(gone)
            before, resources = self._models.get(name), self._resources
            if before is None or resources is None:
                known = ", ".join(self._models)
                raise BundleError(f"no model is served as {name!r}; there are: {known}")
            bundle = await threads.run("loading", lambda: self._bundle(bundle_name))
            if bundle.manifest.input_side_px > resources.side_px:
                raise BundleError(
                    f"{bundle.manifest.name} takes inputs of {bundle.manifest.input_side_px} pixels"
                    f" a side, and this server was started for {resources.side_px}: start it again"
                )
            start_s = time.monotonic()
            model = await self._start(bundle, resources)
            try:
                self._refuse(gone)
            except Draining:
                await model.close()
                raise
            self._models[name] = model  # from here on, new calls use it
            self.load_seconds[name] = load_s = time.monotonic() - start_s
            log.info("model swapped", name=name, **_identity(model), before=_identity(before))
            try:
                async with asyncio.timeout(grace_s):
                    await before.drained()
            except TimeoutError:
                log.warning("calls of the model before are ended", name=name)
            finally:
                await before.close()
            self._settle(self._models)
            self._is_settled = False
            return Swapped(model.identity, before.identity, load_s)

    def _refuse(self, gone: asyncio.Event) -> None:
        """Raise Draining if the caller of a swap has gone, or the server is ending."""
        if gone.is_set() or self._lifecycle.is_ending:
            raise Draining("the server is shutting down", retry_after_ms=100)

    async def _start(self, bundle: Bundle, resources: Resources) -> ServingModel:
        model = await ServingModel.load(
            bundle, resources, self._settings, self._lifecycle, self._image_key
        )
        try:
            await self._warm_up(model)
        except BaseException:
            await model.close()
            raise
        model.warmed_up()
        return model

    def _bundles(self) -> dict[str, Bundle]:
        """Read all bundles that the settings name. Raises BundleError."""
        folders = resolve_all(self._settings.model, self._home())
        return {name: load_bundle(path) for name, path in folders.items()}

    def _bundle(self, name: str) -> Bundle:
        return load_bundle(resolve(name, self._home()))

    def _home(self) -> Path | None:
        return Path(self._settings.bundle_home) if self._settings.bundle_home else None

    def _settle(self, models: dict[str, ServingModel]) -> None:
        if self._resources:
            if not self._settings.max_in_flight:
                engines = [model.engine for model in models.values()]
                self.max_calls = busy_calls(engines, self._resources.decode_threads)
            to_cache_bytes = sum(model.source.free_cache_bytes for model in models.values())
            self._resources.settle(to_cache_bytes, self.max_calls)

    async def _close(self, models: dict[str, ServingModel]) -> None:
        for model in models.values():
            await model.close()
        if self._resources:
            await self._resources.close()


def _identity(model: ServingModel) -> dict[str, str]:
    manifest = model.manifest
    return {
        "model": manifest.name,
        "model_version": manifest.version,
        "weights_sha256": manifest.weights_sha256,
        "precision": model.engine.precision,
    }
