"""Page: the document of an evaluation -> HTML. The template is evaluation.html."""

from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cxr_client.evaluation.report import plots

_NONE = "\N{EN DASH}"
_PACKAGE = "cxr_client.evaluation.report"


def page(document: dict[str, Any]) -> str:
    """Return the page of an evaluation, which needs no other file."""
    findings = document["findings"]
    drawings = {
        "overview": plots.forest(_overview(findings), name="overview", x="AUROC"),
        "roc": plots.roc(findings),
        "precision_recall": plots.precision_recall(findings),
        "calibration": plots.calibration(findings),
        "histograms": plots.histograms(findings),
    }
    subgroups = _subgroups(findings)
    if subgroups:
        drawings["subgroups"] = plots.forest(subgroups, name="subgroups", x="AUROC")
    return _render("evaluation.html", document, drawings)


def comparison_page(document: dict[str, Any]) -> str:
    """Return the page of a comparison of two runs."""
    rows: list[tuple[str, tuple[str, ...], dict[str, Any]]] = [
        (
            each["finding"].replace("_", " "),
            (estimate(each["auroc_difference"]), _positives(each)),
            each["auroc_difference"],
        )
        for each in document["findings"]
    ]
    x = "Difference of AUROC, B \N{MINUS SIGN} A"
    drawings = {"differences": plots.forest(rows, name="differences", x=x, none=0.0)}
    return _render("comparison.html", document, drawings)


def _render(template: str, document: dict[str, Any], drawings: dict[str, str]) -> str:
    environment = Environment(
        loader=PackageLoader("cxr_client.evaluation", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "estimate": estimate,
        "count": count,
        "words": lambda text: text.replace("_", " "),
    }
    return environment.get_template(template).render(
        d=document,
        style=Markup((files(_PACKAGE) / "evaluation.css").read_text("utf-8")),
        figures={name: Markup(svg) for name, svg in drawings.items()},
    )


def count(value: int | None) -> str:
    """Return "1 234" with a narrow space."""
    return _NONE if value is None else f"{value:,}".replace(",", "\u202f")


def _positives(finding: dict[str, Any]) -> str:
    return f"{count(finding['positives'])} of {count(finding['n'])}"


def estimate(value: dict[str, Any], digits: int = 3) -> str:
    """Return "0.812 [0.790, 0.833]", without the interval where there is none."""
    if value["value"] is None:
        return _NONE
    text = f"{value['value']:.{digits}f}"
    if value["low"] is None:
        return text
    text += f" [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"
    return text.replace("-", "\N{MINUS SIGN}")


def _overview(findings: list[dict[str, Any]]) -> list[tuple[str, tuple[str, ...], dict[str, Any]]]:
    return [
        (
            each["finding"].replace("_", " "),
            (estimate(each["auroc"]), _positives(each)),
            each["auroc"],
        )
        for each in findings
    ]


def _subgroups(findings: list[dict[str, Any]]) -> list[tuple[str, tuple[str, ...], dict[str, Any]]]:
    rows: list[tuple[str, tuple[str, ...], dict[str, Any]]] = []
    for finding in findings:
        drawn = [each for each in finding["subgroups"] if each["auroc"]["low"] is not None]
        if drawn:
            rows.append((finding["finding"].replace("_", " "), (), {}))
        rows += [
            (
                f"{each['column']}: {each['level']}",
                (estimate(each["auroc"]), _positives(each)),
                each["auroc"],
            )
            for each in drawn
        ]
    return rows
