"""Loading: settings -> a model that answers. Blocks; runs in a thread at start."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from cxr_server.bundles.load import Bundle, load_bundle
from cxr_server.bundles.manifest import Manifest
from cxr_server.bundles.store import cache_home, resolve
from cxr_server.imaging.radiograph import DecodeLimits
from cxr_server.inference.engines import Engine
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.inference.engines.registry import choose_engine
from cxr_server.inference.scheduler import Scheduler
from cxr_server.inference.scoring import readout
from cxr_server.service import Pipeline
from cxr_server.settings import Settings


@dataclass(slots=True)
class LoadedModel:
    """A bundle on an engine, with the pipeline around it."""

    bundle: Bundle
    engine: Engine
    scheduler: Scheduler
    pipeline: Pipeline

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self.bundle.manifest


def read_bundle(settings: Settings) -> Bundle:
    """Find and check the bundle. Raises BundleError."""
    home = Path(settings.bundle_home) if settings.bundle_home else None
    return load_bundle(resolve(settings.model, home))


def make_engine(bundle: Bundle, settings: Settings) -> Engine:
    """Put the bundle on an engine. Raises BundleError and EngineUnavailable."""
    return choose_engine(
        bundle,
        engine=settings.engine,
        device=settings.device or None,
        cache_dir=Path(settings.cache_dir) if settings.cache_dir else cache_home(),
        threads=settings.engine_threads or None,
    )


def assemble(
    bundle: Bundle,
    engine: Engine,
    settings: Settings,
    on_failure: Callable[[Exception], None],
) -> LoadedModel:
    """Build scheduler and pipeline around an engine. Call on the event loop."""
    decode_slots = settings.decode_threads or usable_cores()
    scheduler = Scheduler(
        engine,
        decode_slots=decode_slots,
        max_waiting=settings.max_in_flight,
        on_failure=on_failure,
    )
    pipeline = Pipeline(
        readout(bundle.manifest),
        scheduler,
        limits=DecodeLimits(
            min_side_px=settings.min_side_px,
            max_side_px=settings.max_side_px,
            max_pixel_count=settings.max_pixels,
        ),
        side_px=bundle.manifest.input_side_px,
        cache_entries=settings.cache_entries,
        threads=decode_slots,
        engine=engine,
    )
    return LoadedModel(bundle, engine, scheduler, pipeline)


def warm_up_image(side_px: int = 256) -> bytes:
    """A PNG that takes every step of the pipeline, and shows nothing."""
    ramp_hw = np.add.outer(np.arange(side_px), np.arange(side_px)) * (255 / (2 * side_px - 2))
    file = BytesIO()
    Image.fromarray(ramp_hw.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
