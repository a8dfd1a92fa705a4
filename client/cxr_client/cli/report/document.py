"""Document: the HTML before, between and after the rows of the report. Next: writer.

    head -> rows of films -> between -> rows of failures -> tail

The document fetches nothing and needs no script: a small one adds sorting and filters. Its policy
(CSP) admits its own style and script, by their hashes, and pictures that are part of it.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from string import Template

from cxr_client import __version__
from cxr_client.cli.report.facts import Facts
from cxr_client.cli.report.rows import spoken, text
from cxr_client.description import FindingDescription, ModelDescription
from cxr_client.enums import Reliability, WarningCode


def head(facts: Facts) -> str:
    """Return the document up to the rows of the films."""
    style, script = _style(), _resource("report.js")
    links = ['<li><a href="#films">Films</a></li>', '<li><a href="#model">Model</a></li>']
    if facts.failures:
        links.insert(1, '<li><a href="#failures">Failures</a></li>')
    model = facts.model.model
    return _part(0).substitute(
        style=style,
        style_hash=_hash(style),
        script_hash=_hash(script),
        title=text(facts.title),
        notice=_notice(facts),
        totals="".join(f"<p>{text(line)}</p>" for line in _totals(facts)),
        iso_time=facts.start_time.isoformat(timespec="seconds"),
        time=facts.start_time.strftime("%Y-%m-%d %H:%M %Z"),
        model=text(f"{model.name} {model.version}"),
        links="".join(links),
        others=_other_models(facts),
        options="".join(f"<option>{spoken(each.label)}</option>" for each in facts.model.findings),
    )


def between(facts: Facts) -> str:
    """Return the document from the last film to the rows of the failures."""
    return _part(1).substitute(notice=_notice(facts), hidden="" if facts.failures else " hidden")


def tail(facts: Facts) -> str:
    """Return the document after the rows of the failures."""
    described, model, upstream = facts.model, facts.model.model, facts.model.upstream_sha256
    rows = {
        "Model": f"{model.name} {model.version}",
        "Intended use": model.intended_use,
        "Architecture": described.architecture,
        "Weights, SHA-256": model.weights_sha256,
        **({"Converted from, SHA-256": upstream} if upstream else {}),
        **{f"{name}, SHA-256": value for name, value in sorted(described.file_sha256.items())},
        **_refitted(described),
        "Preprocessing": described.preprocessing_id,
        "Precision": described.precision,
        "Licence": described.license,
        "Written by": f"cxr {__version__}",
    }
    return _part(2).substitute(
        model_facts="".join(
            f"<div{' class=hash' if name.endswith('SHA-256') else ''}>"
            f"<dt>{text(name)}</dt><dd>{text(value)}</dd></div>"
            for name, value in rows.items()
        ),
        findings="".join(map(_finding_row, described.findings)),
        notices="".join(f"<li>{text(notice)}</li>" for notice in described.notices),
        notice=_notice(facts),
        script=_resource("report.js"),
    )


def _refitted(described: ModelDescription) -> dict[str, str]:
    """Return what the thresholds were fitted to; nothing for those of the model's authors."""
    refit = described.refit
    if refit is None:
        return {}
    fitted = f"{refit.parent_name} {refit.parent_version}, to {refit.labels_title}"
    return {"Thresholds refitted": f"from {fitted}, {_count(refit.image_count, 'film')}"}


def _totals(facts: Facts) -> list[str]:
    """Return the counts: of films and failures, of warnings, of files that were passed over."""
    lines = [_count(facts.films, "film") + f", {facts.failures} failed" * bool(facts.failures)]
    if facts.warnings:
        counts = (f"{_words(code)} {count}" for code, count in facts.warnings.most_common())
        lines.append(f"Films with warnings: {', '.join(counts)}")
    if facts.skipped:
        lines.append(f"Not read: {facts.skipped}")
    return lines


def _words(code: WarningCode) -> str:
    return code.lower().replace("_", " ")


def _notice(facts: Facts) -> str:
    """Return the notices of the answers, or those of the model where nothing was answered."""
    return text(" ".join(facts.notices or facts.model.notices))


def _other_models(facts: Facts) -> str:
    """Return a warning if other models than the described one have answered, too."""
    others = {model: count for model, count in facts.models.items() if model != facts.model.model}
    return "".join(
        f'<p class="other-model">{_count(count, "film")} scored by another model: '
        f"{text(model.name)} {text(model.version)}, weights {text(model.weights_sha256)}, "
        f"in {text(model.precision or 'unknown precision')}.</p>"
        for model, count in others.items()
    )


def _finding_row(finding: FindingDescription) -> str:
    known = finding.reliability is not Reliability.UNSPECIFIED
    reliability = f"{finding.reliability.capitalize()}. " if known else ""
    return (
        f'<tr role="row"><th role="rowheader" scope="row">{spoken(finding.label)}</th>'
        f'<td role="cell">{finding.threshold:.4f}</td>'
        f'<td role="cell">{text(reliability + finding.reliability_note)}</td></tr>\n'
    )


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


@cache
def _resource(name: str) -> str:
    return (files("cxr_client.cli.report") / name).read_text("utf-8")


@cache
def _style() -> str:
    """Return the style: the viewer's colours, type and sizes, and the rules of the report."""
    viewer = (files("cxr_client") / "viewer/static/style.css").read_text("utf-8")
    start = viewer.index(":root {")
    return viewer[start : viewer.index("}", start) + 2] + _resource("report.css")


def _part(number: int) -> Template:
    """Return a part of the template: before the films, before the failures, after them."""
    return Template(_resource("report.html").split("<!-- rows -->\n")[number])


def _hash(source: str) -> str:
    """Return the source of a policy that admits this inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"
