"""Manifest: the content of a bundle's `model.json`. Next: load.

The text is canonical: one manifest has exactly one form, which ends with the SHA-256 of the
rest. A changed byte anywhere in the file is therefore found, as it is in every other file.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cxr_server.bundles.fields import BundleError, Fields

FORMAT = 1
PREPROCESSING_ID = "xrv-centercrop-resize224-v1"
RELIABILITY_LEVELS = ("unknown", "consistent", "uneven", "weak")
VERIFIED = ("known", "given", "trusted-download", "local-file")
NETWORK_INTEGERS = ("growth_rate", "num_init_features", "bn_size", "in_channels")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What a file of the bundle must be: lower-case hex SHA-256 and size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Upstream:
    """The file that the weights were converted from.

    `verified` says how its content was judged: "known" (equal to the hash in the catalogue),
    "given" (equal to a hash from the operator), "trusted-download" (recorded as downloaded)
    or "local-file" (recorded as found on the disk).
    """

    file_name: str
    sha256: str
    bytes: int
    verified: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model's description. Tuples of findings are all in the order of the evidence's rows.

    `network` holds the arguments of torchxrayvision's DenseNet; `class_indices` the findings'
    positions in the upstream model's output; `thresholds` the operating points in (0, 1);
    `bias` what is added to the mean evidence to give a logit; `reliability` (level, note) by
    label; `files` every file of the bundle but `model.json`, by path with forward slashes.
    """

    name: str
    version: str
    architecture: str
    network: Mapping[str, int | tuple[int, ...]]
    labels: tuple[str, ...]
    class_indices: tuple[int, ...]
    thresholds: tuple[float, ...]
    bias: tuple[float, ...]
    input_side_px: int
    evidence_side: int
    preprocessing_id: str
    phantom: bool
    files: Mapping[str, FileEntry]
    weights_sha256: str
    upstream: Upstream | None
    reliability: Mapping[str, tuple[str, str]]
    license: str
    intended_use: str
    notices: tuple[str, ...]
    create_time: str
    format: int = FORMAT

    def to_json(self) -> str:
        """Return the one text of this manifest, its own SHA-256 included."""
        content = _content(self)
        content["manifest_sha256"] = hashlib.sha256(_text(content).encode()).hexdigest()
        return _text(content)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read a manifest strictly.

        Raises:
            BundleError: A field is missing, unknown or out of range, or a byte was changed.
        """
        manifest = _read(Fields.parse(text))
        if manifest.to_json() != text:
            raise BundleError("model.json was changed after it was written")
        return manifest


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _content(manifest: Manifest) -> dict[str, Any]:
    upstream = manifest.upstream
    content: dict[str, Any] = {"format": manifest.format}
    for field in Manifest.__dataclass_fields__:
        content[field] = getattr(manifest, field)
    content["network"] = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in sorted(manifest.network.items())
    }
    content["files"] = {
        path: {"sha256": entry.sha256, "bytes": entry.bytes}
        for path, entry in sorted(manifest.files.items())
    }
    content["upstream"] = upstream and {
        field: getattr(upstream, field) for field in Upstream.__dataclass_fields__
    }
    content["reliability"] = {
        label: {"level": level, "note": note}
        for label, (level, note) in sorted(manifest.reliability.items())
    }
    return content


def _read(fields: Fields) -> Manifest:
    """Check every field on its own, then what they must be together."""
    if fields.integer("format", FORMAT, 10_000) != FORMAT:
        raise BundleError("the bundle was made by a newer cxr-server")
    labels = fields.texts("labels", 1, 1000)
    count = len(labels)
    manifest = Manifest(
        name=fields.identifier("name"),
        version=fields.identifier("version"),
        architecture=fields.identifier("architecture"),
        network=_read_network(fields.child("network")),
        labels=labels,
        class_indices=fields.integers("class_indices", count, 0, 100_000),
        thresholds=fields.numbers("thresholds", count, 0.0, 1.0),
        bias=fields.numbers("bias", count, -1e6, 1e6),
        input_side_px=fields.integer("input_side_px", 32, 4096),
        evidence_side=fields.integer("evidence_side", 1, 512),
        preprocessing_id=fields.identifier("preprocessing_id"),
        phantom=fields.boolean("phantom"),
        files={path: _read_entry(entry) for path, entry in fields.children("files")},
        weights_sha256=fields.sha256("weights_sha256"),
        upstream=_read_upstream(fields),
        reliability={
            label: (entry.choice("level", RELIABILITY_LEVELS), entry.text("note"))
            for label, entry in fields.children("reliability")
        },
        license=fields.text("license"),
        intended_use=fields.text("intended_use"),
        notices=fields.texts("notices", 0, 100),
        create_time=fields.time("create_time"),
    )
    fields.sha256("manifest_sha256")
    fields.nothing_more()
    if len(set(labels)) < count or len(set(manifest.class_indices)) < count:
        raise BundleError("model.json names a finding twice")
    if not all(0.0 < threshold < 1.0 for threshold in manifest.thresholds):
        raise BundleError("model.json: thresholds must lie between 0 and 1")
    if not set(manifest.reliability) <= set(labels):
        raise BundleError("model.json: reliability is given for a finding that is not there")
    weights = manifest.files.get("weights.safetensors")
    if weights is None or weights.sha256 != manifest.weights_sha256:
        raise BundleError("model.json: weights_sha256 is not that of weights.safetensors")
    return manifest


def _read_network(fields: Fields) -> dict[str, int | tuple[int, ...]]:
    network: dict[str, int | tuple[int, ...]] = {
        key: fields.integer(key, 1, 1024) for key in NETWORK_INTEGERS
    }
    network["block_config"] = fields.integers("block_config", None, 1, 256)
    fields.nothing_more()
    return dict(sorted(network.items()))


def _read_entry(fields: Fields) -> FileEntry:
    entry = FileEntry(fields.sha256("sha256"), fields.integer("bytes", 0, 1 << 40))
    fields.nothing_more()
    return entry


def _read_upstream(parent: Fields) -> Upstream | None:
    if parent.is_null("upstream"):
        return None
    fields = parent.child("upstream")
    upstream = Upstream(
        file_name=fields.text("file_name"),
        sha256=fields.sha256("sha256"),
        bytes=fields.integer("bytes", 1, 1 << 40),
        verified=fields.choice("verified", VERIFIED),
    )
    fields.nothing_more()
    return upstream
