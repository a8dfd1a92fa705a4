"""Server: the commands that ask about the server, `health`, `model` and `version`."""

import argparse
import json

from cxr_client import __version__
from cxr_client.cli.connect import connect, server_of
from cxr_client.cli.output import plain
from cxr_client.cli.status import EXIT_FAILED, EXIT_OK
from cxr_client.cli.text import aligned, printable
from cxr_client.description import Health, ModelDescription
from cxr_client.enums import Reliability
from cxr_client.quantization import Quantization
from cxr_client.refit import FindingRefit, Refit


async def health(arguments: argparse.Namespace) -> int:
    """Print the state of the server; the exit status is 1 unless it is serving."""
    async with connect(arguments) as client:
        state = await (
            client.wait_until_ready(arguments.wait) if arguments.wait else client.health()
        )
    print(json.dumps(plain(state)) if arguments.json else printable(_state_line(state)))
    return EXIT_OK if state.serving else EXIT_FAILED


async def model(arguments: argparse.Namespace) -> int:
    """Print the description of the loaded model."""
    async with connect(arguments) as client:
        described = await client.describe_model()
    if arguments.json:
        print(json.dumps(plain(described)))
        return EXIT_OK
    print("\n".join(aligned(_facts(described))) + "\n")
    rows = [["finding", "threshold", *["fitted for"] * bool(described.refit), "reliability", ""]]
    for finding in described.findings:
        known = finding.reliability is not Reliability.UNSPECIFIED
        reliability = finding.reliability if known else ""
        note = finding.reliability_note
        cells = [finding.label, f"{finding.threshold:.4f}"]
        if described.refit:
            cells.append(_fitted(finding.refit))
        rows.append([*cells, reliability, note])
    print("\n".join([*aligned(rows), "", *map(printable, described.notices)]))
    return EXIT_OK


async def version(arguments: argparse.Namespace) -> int:
    """Print the version of this command, then that of the server."""
    print(f"cxr        {__version__}", flush=True)
    async with connect(arguments) as client:
        state = await client.health()
    print(printable(f"cxr-server {state.server_version} at {server_of(arguments)}"))
    return EXIT_OK


def _state_line(state: Health) -> str:
    """Return the state and what is known of it: while loading, there is no model and engine."""
    facts = [f"server {state.server_version}", f"up {state.uptime_s:.0f} s"]
    if state.model:
        on = f"{state.engine} ({', '.join(filter(None, (state.device, state.precision)))})"
        facts.insert(0, f"{state.model.name} {state.model.version} on {on}")
    if state.serving:
        facts += [f"{state.queue_depth} queued", f"{state.in_flight_count} in flight"]
    return f"{state.status}: {', '.join(facts)}"


def _fitted(refit: FindingRefit | None) -> str:
    """Return what an operating point was fitted for, and what it achieves on other films."""
    if refit is None:
        return "kept: no labels"
    if not (refit.sensitivity and refit.specificity):
        return f"kept: {refit.kept_reason}"
    rates = (
        f"{name} {each.value:.2f} [{each.low:.2f}, {each.high:.2f}]"
        for name, each in (("sens.", refit.sensitivity), ("spec.", refit.specificity))
    )
    return f"{refit.criterion}: {', '.join(rates)}"


def _refit_facts(refit: Refit | None) -> list[list[str]]:
    if refit is None:
        return []
    patients = "" if refit.patient_count is None else f" of {refit.patient_count} patients"
    facts = [
        ["refitted from", f"{refit.parent_name} {refit.parent_version}"],
        ["fitted to", f"{refit.image_count} images{patients}, {refit.labels_title}"],
        ["labels sha256", refit.labels_sha256 or "none: a folder"],
        ["split", refit.split],
    ]
    if refit.calibration_method:
        facts.append(["calibration", f"{refit.calibration_method}, for films like these only"])
    return facts


def _quantization_facts(made: Quantization | None) -> list[list[str]]:
    if made is None:
        return []
    facts = [
        ["quantised from", f"{made.parent_name} {made.parent_version}, by {made.tool}"],
        ["calibrated with", f"{made.calibration_count} films ({made.films})"],
        ["measured on", f"{made.film_count} other films, against {made.parent_name} in float32:"],
        [
            "  probability",
            f"differs by {made.max_probability_difference:.4f} at most, "
            f"{made.mean_probability_difference:.5f} in the mean",
        ],
        [
            "  score",
            f"differs by {made.max_score_difference:.4f} at most, "
            f"{made.mean_score_difference:.5f} in the mean",
        ],
        [
            "  changed side",
            f"{made.changed_side_count} findings, {made.far_changed_side_count} of them further "
            f"than {made.tolerance:g} from their operating point",
        ],
        [
            "  evidence",
            f"correlation {made.evidence_correlation:.4f} in the mean, "
            f"{made.low_evidence_correlation:.4f} at the 5 % quantile",
        ],
    ]
    if planted := made.planted:
        facts.append(
            [
                "  phantoms",
                f"{planted.count} findings planted: "
                f"AUC {planted.auc_float32:.4f} -> {planted.auc_int8:.4f}, "
                f"pointing {planted.pointing_float32:.3f} -> {planted.pointing_int8:.3f}",
            ]
        )
    if not made.within_tolerance:
        facts.append(["  tolerance", f"EXCEEDED, accepted by the operator ({made.tolerance:g})"])
    return facts


def _facts(described: ModelDescription) -> list[list[str]]:
    limits = described.limits
    return [
        ["model", f"{described.model.name} {described.model.version}"],
        *_others(described),
        ["intended use", described.model.intended_use],
        ["architecture", described.architecture],
        ["weights sha256", described.model.weights_sha256],
        ["upstream sha256", described.upstream_sha256 or "none: trained for this bundle"],
        ["licence", described.license],
        ["input", f"{described.input_side_px} px square, {described.preprocessing_id}"],
        ["evidence grid", f"{described.evidence_side} x {described.evidence_side}"],
        ["precision", described.precision],
        *_refit_facts(described.refit),
        *_quantization_facts(described.quantization),
        ["methods", ", ".join(described.methods)],
        ["formats", ", ".join(described.image_formats)],
        [
            "limits",
            f"{limits.max_request_bytes / 2**20:.4g} MiB, sides of {limits.min_side_px} to "
            f"{limits.max_side_px} px, {limits.max_pixel_count / 1e6:.4g} megapixels; "
            f"{limits.max_drawn_pixels / 1e6:.4g} megapixels drawn in one call; "
            f"{limits.max_in_flight_count} calls in flight, "
            f"{limits.max_bulk_in_flight_count} of them in bulk",
        ],
    ]


def _others(described: ModelDescription) -> list[list[str]]:
    """Return a row for each model that can be asked for by name, if there are several."""
    served = described.served_models
    if len(served) < 2:
        return []
    names = [f"{each.name}: {each.model.name} {each.model.version}" for each in served]
    return [["served" if row == 0 else "", name] for row, name in enumerate(names)]
