"""Typicality: embeddings of reference films -> how usual another film is. Next: model.

A Mahalanobis distance in the network's features. The covariance is shrunk as in Ledoit and Wolf, A
well-conditioned estimator for large-dimensional covariance matrices, 2004; its largest principal
components are kept, and all other directions share one variance.
"""

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from cxr_server.bundles.load import Bundle
from cxr_server.bundles.manifest import BundleError, FittedOn, Manifest

REFERENCE_NAME = "reference.npz"
UNTYPICAL_BELOW = 0.02
"""Typicality below which an image is untypical. About this share of usual films is flagged, too."""
MIN_FILMS = 50
"""With fewer, no film of the reference would be as rare as `UNTYPICAL_BELOW` says."""
MAX_COMPONENTS = 64
MIN_VARIANCE = 1e-9  # for features that are the same in all films
FOLDS = 5
TRIMMED_SHARE = 0.05
"""Share of the most distant films that are left out of the fit: folders hold wrong films."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Reference:
    """A fitted distance, and the distances of the reference films themselves.

    These were each measured by a fit to other films, so that they are as large as those of films
    that are seen later.
    """

    mean_c: Array
    components_pc: Array  # orthonormal rows
    extra_p: Array  # inverse variance of each component, minus `rest`
    rest: Array  # inverse variance of all other directions, []
    distances_n: Array  # ascending

    def distance(self, embeddings_nc: Array) -> Array:
        """Return the squared Mahalanobis distance of each embedding."""
        away_nc = embeddings_nc - self.mean_c
        along_np = away_nc @ self.components_pc.T
        return np.asarray(along_np**2 @ self.extra_p + (away_nc**2).sum(axis=1) * self.rest)

    def typicality(self, embedding_c: Array) -> float:
        """Return the share of the reference films that are more distant, in [0, 1]."""
        distance = self.distance(embedding_c[None])[0]
        count = len(self.distances_n)
        return 1 - int(np.searchsorted(self.distances_n, distance, side="right")) / count


def fit(embeddings_nc: Array) -> Reference:
    """Fit a reference. Raises BundleError if there are fewer than `MIN_FILMS` embeddings."""
    count = len(embeddings_nc)
    if count < MIN_FILMS:
        raise BundleError(f"a reference needs {MIN_FILMS} films or more, and there are {count}")
    fold_n = np.arange(count) % FOLDS
    distances_n = np.empty(count, np.float32)
    for fold in range(FOLDS):
        held_out = fold_n == fold
        distances_n[held_out] = _trimmed(embeddings_nc[~held_out]).distance(embeddings_nc[held_out])
    found = _trimmed(embeddings_nc)
    return Reference(
        found.mean_c, found.components_pc, found.extra_p, found.rest, np.sort(distances_n)
    )


def _trimmed(embeddings_nc: Array) -> Reference:
    distances_n = _fit_once(embeddings_nc).distance(embeddings_nc)
    return _fit_once(embeddings_nc[distances_n <= np.quantile(distances_n, 1 - TRIMMED_SHARE)])


def _fit_once(embeddings_nc: Array) -> Reference:
    count, width = embeddings_nc.shape
    mean_c = embeddings_nc.mean(axis=0, dtype=np.float64)
    away_nc = embeddings_nc - mean_c
    _, singular, rows_rc = np.linalg.svd(away_nc, full_matrices=False)
    variances = np.zeros(width)
    variances[: len(singular)] = singular**2 / count
    average = variances.mean()
    # Ledoit and Wolf: how far single films' products are from the covariance, against how far that
    # is from a multiple of the identity. Both are sums over all elements of the matrix.
    spread = ((variances - average) ** 2).sum()
    noise = ((away_nc**2).sum(axis=1) ** 2).sum() / count**2 - (variances**2).sum() / count
    shrinkage = min(1.0, noise / spread) if spread > 0 else 1.0
    variances = np.maximum((1 - shrinkage) * variances + shrinkage * average, MIN_VARIANCE)
    kept = min(MAX_COMPONENTS, len(singular), width - 1)
    rest = 1 / variances[kept:].mean()
    return Reference(
        mean_c.astype(np.float32),
        np.ascontiguousarray(rows_rc[:kept], np.float32),
        (1 / variances[:kept] - rest).astype(np.float32),
        np.asarray(rest, np.float32),
        np.empty(0, np.float32),
    )


def reference_file(reference: Reference) -> bytes:
    """Return the content of a reference's file."""
    file = io.BytesIO()
    np.savez(file, **{name: getattr(reference, name) for name in Reference.__slots__})
    return file.getvalue()


def fitted_on(reference: Reference, manifest: Manifest) -> FittedOn:
    """Return what a manifest says of a new reference: nothing of the films but their number."""
    return FittedOn(
        REFERENCE_NAME,
        len(reference.distances_n),
        datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        manifest.preprocessing_id,
        manifest.weights_sha256,
    )


def load_reference(bundle: Bundle) -> Reference | None:
    """Return the reference of a bundle, or None if it has none. Raises BundleError."""
    stated = bundle.manifest.reference
    if not stated:
        return None
    try:
        with np.load(io.BytesIO(bundle.file(stated.file).read_bytes())) as stored:
            return Reference(*(stored[name] for name in Reference.__slots__))
    except (KeyError, ValueError, EOFError, OSError, BadZipFile) as error:
        raise BundleError(f"{stated.file}: {error}") from None
