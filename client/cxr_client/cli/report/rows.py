"""Rows: the outcome of an image -> a row of the report, as HTML. Next: document."""

import base64
from collections.abc import Iterable
from html import escape

from cxr_client.answer import Finding, InputWarning
from cxr_client.cli.output import Failure, error_fields
from cxr_client.cli.refusals import with_options
from cxr_client.cli.report.facts import warnings_of
from cxr_client.cli.text import printable, shortest
from cxr_client.description import ModelDescription
from cxr_client.enums import DicomPresentation, Reliability, RenderFormat
from cxr_client.explanation import Explanation
from cxr_client.results import ExplanationSet

_MEDIA_TYPES = {RenderFormat.JPEG: "image/jpeg", RenderFormat.PNG: "image/png"}


def text(value: object) -> str:
    """Return a value as text for HTML, also within quotes. Names and messages are untrusted."""
    return escape(printable(value))


def spoken(label: str) -> str:
    """Return a label as text for HTML; torchxrayvision writes some with an underscore."""
    return text(label.replace("_", " "))


def film_row(name: str, answer: ExplanationSet, model: ModelDescription) -> str:
    """Return the row of a film.

    Its attributes are for the script: the scores in the order of the model's findings, and the
    places in that order of the finding with the highest score and of those above their thresholds.
    """
    labels = [finding.label for finding in model.findings]
    weak = {each.label for each in model.findings if each.reliability is Reliability.WEAK}
    by_label = {finding.label: finding for finding in answer.findings}
    scores = [f"{shortest(by_label[each].score)}" if each in by_label else "" for each in labels]
    above = [finding for finding in answer.findings if finding.above_threshold]
    first = above or answer.findings[:1]
    rest = [finding for finding in answer.findings if finding not in first]
    warnings = warnings_of(answer)
    return f"""<tr role="row" data-scores="{" ".join(scores)}" \
data-top="{_places(answer.findings[:1], labels)}" data-above="{_places(above, labels)}" \
data-warnings="{len(warnings)}">
<td role="cell" class="map">{_picture(name, answer.explanations[0])}</td>
<th role="rowheader" scope="row" class="film"><span class="name">{text(name)}</span>
<small>{_image_facts(answer)}</small></th>
<td role="cell" class="scores"><ul>{"".join(_score(each, weak) for each in first)}</ul>\
{_rest(rest, weak)}</td>
<td role="cell" class="warnings">{_warnings(warnings)}</td>
</tr>
"""


def failure_row(name: str, failure: Failure) -> str:
    """Return the row of an image without an answer: its reason, and what happened."""
    error = error_fields(failure)
    return f"""<tr role="row">
<th role="rowheader" scope="row" class="film"><span class="name">{text(name)}</span></th>
<td role="cell"><code>{text(error["reason"] or error["code"])}</code></td>
<td role="cell">{text(with_options(failure.message))}</td>
</tr>
"""


def _places(findings: Iterable[Finding], labels: list[str]) -> str:
    return " ".join(str(labels.index(each.label)) for each in findings if each.label in labels)


def _picture(name: str, explanation: Explanation) -> str:
    label = spoken(explanation.finding.label)
    if explanation.heatmap_format is None:
        return "no picture"
    shown = f"the heat map of {label}"
    caption = f"Map of {label}"
    if explanation.no_positive_evidence:
        shown, caption = f"no heat: there is no evidence for {label}", f"No evidence for {label}"
    data = base64.b64encode(explanation.heatmap).decode()
    media_type = _MEDIA_TYPES[explanation.heatmap_format]
    return (
        f'<figure><img alt="{text(name)} with {shown}" decoding="async" '
        f'src="data:{media_type};base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def _image_facts(answer: ExplanationSet) -> str:
    info = answer.image_info
    facts = f"{info.width_px} \N{MULTIPLICATION SIGN} {info.height_px} px, {info.format}"
    if info.presentation is DicomPresentation.STORED:
        facts += ", stored values"
    return text(facts)


def _score(finding: Finding, weak: set[str]) -> str:
    """Return a score with its bar, which begins at the decision boundary, 0.5."""
    left, right = sorted((50.0, 100 * finding.score))
    return (
        f"<li{' class=above' if finding.above_threshold else ''}>{_label(finding, weak)}"
        '<svg viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="bar" x="{left:.1f}" width="{right - left:.1f}" height="12"/>'
        f'</svg><span class="value">{_three(finding.score)}</span></li>'
    )


def _three(score: float) -> str:
    return text("<0.001" if 0 < score < 0.0005 else f"{score:.3f}")


def _rest(findings: list[Finding], weak: set[str]) -> str:
    if not findings:
        return ""
    items = "".join(
        f'<li>{_label(each, weak)}<span class="value">{_three(each.score)}</span></li>'
        for each in findings
    )
    return f"<details><summary>{len(findings)} more</summary><ul>{items}</ul></details>"


def _label(finding: Finding, weak: set[str]) -> str:
    mark = ' <span class="weak">weak</span>' if finding.label in weak else ""
    return f'<span class="label">{spoken(finding.label)}{mark}</span>'


def _warnings(warnings: list[InputWarning]) -> str:
    items = "".join(
        f"<li>{text(each.message)} <code>{text(each.code)}</code></li>" for each in warnings
    )
    return f"<ul>{items}</ul>" if items else ""
