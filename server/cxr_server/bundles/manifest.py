"""Manifest: the content of a bundle's `model.json`. Next: load.

The text is canonical: a manifest has exactly one form, which ends with the SHA-256 of the
rest. A changed byte is therefore detected in this file as in every other.
"""

import hashlib
import re
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from cxr_server.bundles.architectures import Architecture, read_architecture
from cxr_server.bundles.fields import Identifier, Label, Line, Sha256, Time
from cxr_server.bundles.quantization import Quantization
from cxr_server.bundles.refit import Isotonic, Platt, Refit
from cxr_server.errors import OperatorError

FORMAT: Final = 2
WEIGHTS_NAME = "weights.safetensors"
INTENDED_USE = "Research and software testing only. Not a medical device, not for diagnosis."
NOTICE = "For research use only. Not for diagnosis, and not a medical device."
PHANTOM_NOTICE = (
    "Phantom model: trained on drawings, for trying out and testing the system. "
    "Its scores say nothing about people. " + NOTICE
)

Verified = Literal["known", "given", "trusted-download", "local-file"]
"""Equal to the hash in the catalogue, or from the operator; recorded as downloaded, or found."""

_SEAL = re.compile(r',\n "manifest_sha256": "[0-9a-f]{64}"\n}\n\Z')


class BundleError(OperatorError):
    """A bundle that is not served. The message names the file and what is wrong with it."""


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lower-case hex SHA-256 and size of a file of the bundle."""

    sha256: Sha256
    bytes: Annotated[int, Meta(ge=0, le=1 << 40)]


class Upstream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file that the weights were converted from, and how its content was verified."""

    file_name: Line
    sha256: Sha256
    bytes: Annotated[int, Meta(ge=1, le=1 << 40)]
    verified: Verified


class Reliability(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How well a finding is recognised, and the figures behind that."""

    level: Literal["unknown", "consistent", "uneven", "weak"]
    note: Line


class Probe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An image file of the bundle, and the scores that every engine must compute for it."""

    file: Line
    scores: tuple[Annotated[float, Meta(ge=0.0, le=1.0)], ...]
    """For each finding, in float32, by the reference forward pass of the conversion."""


class FittedOn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reference of typical images: a file of the bundle, and what it was made from."""

    file: Line
    films: Annotated[int, Meta(ge=1)]
    create_time: Time
    preprocessing_id: Identifier
    weights_sha256: Sha256


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the author states. Tuples have one value for each finding. Raises ValueError."""

    format: Literal[2] = FORMAT
    name: Identifier
    version: Identifier
    network: Architecture
    labels: Annotated[tuple[Label, ...], Meta(min_length=1, max_length=1000)]
    class_indices: tuple[Annotated[int, Meta(ge=0, le=100_000)], ...]
    """The findings' positions in the upstream model's output, ascending."""
    thresholds: tuple[Annotated[float, Meta(gt=0.0, lt=1.0)], ...]
    """Operating points: raw probabilities."""
    license: Line
    notices: Annotated[tuple[Label, ...], Meta(max_length=100)]
    phantom: bool = False
    upstream: Upstream | None = None  # None if the model was trained for this bundle
    reliability: dict[str, Reliability] = {}  # by label
    intended_use: Line = INTENDED_USE
    input_side_px: Annotated[int, Meta(ge=32, le=4096)] = 224
    preprocessing_id: Identifier = "xrv-centercrop-resize224-v1"
    create_time: Time = msgspec.field(
        default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    )

    def __post_init__(self) -> None:
        count = len(self.labels)
        if len(set(self.labels)) < count:
            raise ValueError("a finding is named twice")
        if not len(self.class_indices) == len(self.thresholds) == count:
            raise ValueError("class_indices and thresholds need one value for each finding")
        if list(self.class_indices) != sorted(set(self.class_indices)):
            raise ValueError("class_indices must be ascending")
        if not set(self.reliability) <= set(self.labels):
            raise ValueError("reliability names a finding that is not in labels")
        datetime.fromisoformat(self.create_time)


class Manifest(Description, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The complete description of a bundle."""

    evidence_side: Annotated[int, Meta(ge=1, le=512)]
    bias: tuple[Annotated[float, Meta(ge=-1e6, le=1e6)], ...]
    """Logit = mean evidence + bias, for each finding."""
    files: dict[str, FileEntry]  # all but `model.json`, by path with forward slashes
    probe: Probe | msgspec.UnsetType = msgspec.UNSET  # bundles made elsewhere may have none
    reference: FittedOn | msgspec.UnsetType = msgspec.UNSET
    refit: Refit | msgspec.UnsetType = msgspec.UNSET
    quantization: Quantization | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.bias) != len(self.labels):
            raise ValueError("bias needs one value for each finding")
        if WEIGHTS_NAME not in self.files:
            raise ValueError(f"files must name {WEIGHTS_NAME}")
        if self.probe is not msgspec.UNSET:
            if len(self.probe.scores) != len(self.labels):
                raise ValueError("probe needs one score for each finding")
            if self.probe.file not in self.files:
                raise ValueError("files must name the file of probe")
        if self.reference is not msgspec.UNSET:
            made_of = (self.reference.weights_sha256, self.reference.preprocessing_id)
            if made_of != (self.weights_sha256, self.preprocessing_id):
                raise ValueError("reference was made with other weights or another preprocessing")
            if self.reference.file not in self.files:
                raise ValueError("files must name the file of reference")
        if self.refit is not msgspec.UNSET:
            if self.refit.weights_sha256 != self.weights_sha256:
                raise ValueError("refit was made with other weights")
            if not set(self.refit.findings) <= set(self.labels):
                raise ValueError("refit names a finding that is not in labels")

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights in lower-case hex: with the version, the identity of the model.

        A bundle that is refitted or in int8 has the weights of its parent.
        """
        return self.files[WEIGHTS_NAME].sha256

    @property
    def curves(self) -> dict[str, Platt | Isotonic]:
        """The calibrations of a refit, by finding."""
        found = self.refit.findings if self.refit else {}
        return {label: each.calibration.curve for label, each in found.items() if each.calibration}

    @property
    def probe_thresholds(self) -> tuple[float, ...]:
        """The operating points that the scores of the probe are of: those before a refit."""
        found = self.refit.findings if self.refit else {}
        return tuple(
            found[label].parent_threshold if label in found else threshold
            for label, threshold in zip(self.labels, self.thresholds, strict=True)
        )

    @property
    def notice(self) -> str:
        """A sentence on the permitted use, shown wherever results are shown."""
        return PHANTOM_NOTICE if self.phantom else NOTICE

    def to_json(self) -> str:
        """Return the one text of this manifest, its own SHA-256 included."""
        content = msgspec.json.encode(self, order="deterministic")
        body = msgspec.json.format(content, indent=1).decode() + "\n"
        seal = hashlib.sha256(body.encode()).hexdigest()
        return body.removesuffix("\n}\n") + f',\n "manifest_sha256": "{seal}"\n}}\n'

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read a manifest strictly. Raises BundleError for any wrong field or changed byte."""
        body, sealed = _SEAL.subn("\n}\n", text)
        if not sealed:
            raise BundleError("model.json was changed: it does not end with its own SHA-256")
        try:
            stated = msgspec.json.decode(body, type=dict).get("format")
            if stated != FORMAT:
                raise BundleError(
                    f"model.json has format {stated}, and this server reads format {FORMAT}:"
                    " run `cxr-server prepare` again"
                )
            manifest = msgspec.json.decode(body, type=cls, dec_hook=read_architecture)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"model.json: {error}") from None
        if manifest.to_json() != text:
            raise BundleError("model.json was changed after it was written")
        return manifest
