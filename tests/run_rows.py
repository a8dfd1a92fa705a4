"""A header and rows of a bulk run."""

from cxr_client.runs import FailureRow, Header, ImageRow

HEADER: Header = {
    "kind": "header",
    "format": "cxr-run",
    "format_version": 1,
    "model": {"name": "phantom", "version": "1", "weights_sha256": "ab"},
    "preprocessing_id": "xrv-224",
    "labels": ["Effusion"],
    "thresholds": {"Effusion": 0.25},
    "input_side_px": 224,
    "options": {},
    "client_version": "0.1.0",
    "server_version": "0.1.0",
    "notice": "For research use only.",
    "created": "2026-01-01T00:00:00+00:00",
}
IMAGE: ImageRow = {
    "kind": "image",
    "file": "films/a.png",
    "key": "k1",
    "size_bytes": 10,
    "mtime_ns": 20,
    "findings": [
        {
            "label": "Effusion",
            "score": 0.7,
            "probability": 0.4,
            "threshold": 0.25,
            "above_threshold": True,
        }
    ],
    "warnings": ["CROPPED"],
    "image_info": {},
    "typicality": None,
    "heatmap": None,
    "request_id": "r",
}
FAILURE: FailureRow = {
    "kind": "failure",
    "file": "films/\udcff.png",
    "key": "k2",
    "size_bytes": None,
    "mtime_ns": None,
    "reason": "FILE_UNREADABLE",
    "message": "Permission denied",
}
