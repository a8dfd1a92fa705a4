"""Evidence: image bytes -> Evidence, from the cache or by way of the scheduler. Next: model."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np

from cxr_server.bundles.load import Bundle
from cxr_server.imaging.codecs import CODECS, read
from cxr_server.imaging.foreign import MAX_SNIFFED_BYTES
from cxr_server.imaging.quality import refuse_unlikely
from cxr_server.imaging.radiograph import DecodeOptions, ImageBytes, InputWarning
from cxr_server.inference.cache import EvidenceCache, LateKey, outline_of
from cxr_server.inference.engines import Output
from cxr_server.inference.model_input import Evidence, ModelInput
from cxr_server.inference.preprocess import Job, Preprocessing, hold_of, preprocess
from cxr_server.inference.scheduler import Scheduler
from cxr_server.inference.scoring import findings, ranked
from cxr_server.inference.typicality import UNTYPICAL_BELOW, load_reference
from cxr_server.observability.call import Call
from cxr_server.observability.stages import Stages
from cxr_server.resources import Resources

HASHED_ON_LOOP_BYTES = 2**16
"""Files up to this size are hashed on the event loop: a thread hop would take longer."""

FINDING_BYTES = 256
"""What a finding's numbers take as Python objects."""

R = TypeVar("R")


class EvidenceSource:
    """The evidence of images by one model. With an `image_key`, each is hashed for the audit."""

    def __init__(
        self,
        bundle: Bundle,
        preprocessing: Preprocessing,
        scheduler: Scheduler,
        resources: Resources,
        cache_entries: int,
        image_key: bytes,
    ) -> None:
        self.cache = EvidenceCache(cache_entries, image_key)
        self._image_key = image_key
        self._manifest = bundle.manifest
        self._preprocessing = preprocessing
        self._reference = load_reference(bundle)
        self._scheduler = scheduler
        self._resources = resources

    @property
    def free_cache_bytes(self) -> int:
        """What the cache takes beyond its entries now when it is full."""
        manifest = self._manifest
        finding_bytes = 4 * manifest.evidence_side**2 + FINDING_BYTES
        return (self.cache.capacity - len(self.cache)) * (
            manifest.input_side_px**2 + len(manifest.labels) * finding_bytes
        )

    def forget(self) -> None:
        """Empty the cache, and begin to count anew."""
        self.cache = EvidenceCache(self.cache.capacity, self._image_key)

    async def image_size(self, image: ImageBytes, call: Call) -> tuple[int, int]:
        """Return height and width of an image, as stored. Raises ImageError."""
        header = (await self._read(partial(read, image, self._resources.limits), call)).header
        return header.height_px, header.width_px

    async def evidence(
        self,
        image: ImageBytes,
        call: Call,
        stages: Stages,
        *,
        strict: bool = False,
        options: DecodeOptions = DecodeOptions(),  # noqa: B008 -- frozen
        use_cache: bool = True,
        needs_input: bool = False,
        needs_whole: bool = False,
    ) -> tuple[Evidence, ModelInput | None]:
        """Return an image's evidence, and the input if it was made.

        The evidence comes from the cache if possible and allowed.

        The input is always made if it or the whole image is needed. `strict` and the errors are
        those of `preprocess`, and `Scheduler.submit` has errors of its own.
        """
        job = Job(
            preprocessing=self._preprocessing,
            side_px=self._manifest.input_side_px,
            limits=self._resources.limits,
            options=options,
            strict=strict,
            keep_whole=needs_whole,
        )
        key, late_key, evidence, outline = b"", None, None, outline_of(image)
        # Equal bytes read in another way are another image.
        is_dicom = CODECS["DICOM"].sniff(bytes(image[:MAX_SNIFFED_BYTES]))
        kind = options.presentation.encode() if is_dicom else b""
        use_cache = use_cache and self.cache.capacity > 0
        if use_cache and not self._image_key and self.cache.is_new(outline):
            late_key = LateKey(self.cache, image)
        elif use_cache or self._image_key:
            key = await self._key(image, call)
            evidence = self.cache.get(key + kind) if use_cache else None
        if evidence and strict:
            facts = evidence.facts
            refuse_unlikely(evidence.warnings, facts.display_range, facts.presentation)
        if evidence and not (needs_input or needs_whole):
            return evidence, None
        made, found = await self._scheduler.submit(
            self._decoding(image, job, call, late_key.find if late_key else _nothing),
            None if evidence else self._evidence_of,
            stages=stages,
            caller=call.caller,
            deadline=call.deadline,
            bulk=call.bulk,
        )
        if found and use_cache:
            self.cache.put((late_key.key if late_key else key) + kind, outline, found)
        evidence = evidence or found
        assert evidence is not None  # cached, or from the engine
        return evidence, made

    async def _key(self, image: ImageBytes, call: Call) -> bytes:
        """Return a file's key in the cache, which the audit file has as well, if there is one."""
        place = len(call.image_hmacs)  # hashes of large images come later
        if self._image_key:
            call.image_hmacs.append("")
        if len(image) <= HASHED_ON_LOOP_BYTES:
            key = self.cache.key_of(image)
        else:
            key = await self._read(partial(self.cache.key_of, image), call)
        if self._image_key:
            call.image_hmacs[place] = key.hex()
        return key

    def _decoding(
        self, image: ImageBytes, job: Job, call: Call, find_key: Callable[[], None]
    ) -> Callable[[], ModelInput]:
        """Return what a decode thread does with an image: the work itself, or to wait for it.

        It finds the key before, or while it waits.
        """
        hold, check = hold_of(self._resources.decode_budget, call.check), call.check
        in_process = partial(
            self._resources.processes.preprocess, image, job, hold=hold, check=check
        )
        if self._resources.in_processes:
            return partial(in_process, meanwhile=find_key)

        def in_thread() -> ModelInput:
            find_key()
            return preprocess(image, job, hold=hold, check=check, isolated=in_process)

        return in_thread

    def _evidence_of(self, made: ModelInput, output: Output) -> Evidence:
        """Return copies, since rows of a batch would keep the whole batch alive in the cache.

        Called in the engine's threads.
        """
        embedding_c, typicality, warnings = None, None, made.warnings
        if output.embedding_c is not None:
            embedding_c = np.array(output.embedding_c)
            if self._reference:
                typicality = self._reference.typicality(embedding_c)
                if typicality < UNTYPICAL_BELOW:
                    warnings = (*warnings, InputWarning.UNTYPICAL_IMAGE)
        return Evidence(
            np.array(output.evidence_khw),
            ranked(findings(output.evidence_khw, self._manifest)),
            made.picture_hw,
            made.facts,
            warnings,
            embedding_c,
            typicality,
        )

    async def _read(self, read: Callable[[], R], call: Call) -> R:
        """Run `read` in a thread for reading files only, where it never waits for slow work."""
        (result,) = await self._resources.files.run(
            (read() for _ in "1"), deadline=call.deadline, bulk=call.bulk
        )
        return result


def _nothing() -> None:
    """Find no key."""
