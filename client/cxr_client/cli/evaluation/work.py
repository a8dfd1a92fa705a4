"""Work: the command line of `evaluate` -> an evaluation -> a report, a JSON file and a table."""

import argparse
import json
import os
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from cxr_client.bulk.identity import read_secret
from cxr_client.cli.evaluation.output import print_comparison, print_table, writable, write
from cxr_client.cli.files import os_message
from cxr_client.cli.status import EXIT_OK
from cxr_client.cli.text import printable
from cxr_client.cli.usage import UsageError, nearest
from cxr_client.evaluation.cohort import Cohort, join
from cxr_client.evaluation.comparison import compare, pair
from cxr_client.evaluation.document import comparison_document, document
from cxr_client.evaluation.evaluate import Options
from cxr_client.evaluation.evaluate import evaluate as figures_of
from cxr_client.evaluation.films import films_table
from cxr_client.evaluation.labels.label_set import Choices, LabelError, LabelSet
from cxr_client.evaluation.labels.registry import FORMATS, idle_choices
from cxr_client.evaluation.localisation.localise import localise
from cxr_client.evaluation.localisation.regions import REGION_FORMATS
from cxr_client.evaluation.names import reveal
from cxr_client.evaluation.report.page import comparison_page, page
from cxr_client.evaluation.scores import Scores, read_scores
from cxr_client.evaluation.subgroups import DEFAULT
from cxr_client.runs import Run, RunError


def evaluate(arguments: argparse.Namespace) -> int:
    """Write the report and the JSON file, and print a table of findings.

    Raises:
        UsageError: The run or the label file is not what the command line says.
        FileError: A file cannot be written.
    """
    output: Path = arguments.output
    beside = output.with_suffix(".json")
    table = output.with_name(f"{output.stem}.films.csv")
    writable(output, beside, table)
    try:
        result, films = _result(arguments, table.name)
    except (LabelError, RunError) as error:
        raise UsageError(printable(error)) from None
    except OSError as error:
        raise UsageError(f"{error.filename}: {os_message(error)}") from None
    compared = arguments.other is not None
    write(output, comparison_page(result) if compared else page(result))
    if films:
        write(table, films)
    write(beside, json.dumps(result, indent=1, allow_nan=False) + "\n")
    if compared:
        print_comparison(result)
    else:
        print_table(result)
    files = [output, beside, *([table] if films else [])]
    print("\n" + "\n".join(map(printable, files)))
    return EXIT_OK


def _result(arguments: argparse.Namespace, table: str) -> tuple[dict[str, Any], str]:
    """Return the document, and the content of the table of films; "" for a comparison."""
    choices = Choices(
        blank=arguments.blank,
        uncertain=arguments.uncertain,
        readers=arguments.readers,
        laterals=arguments.laterals,
        key_column=arguments.key_column,
        patient_column=arguments.patient_column,
        metadata=arguments.metadata,
        map=_map(arguments.map),
    )
    if (arguments.regions is None) != (arguments.regions_format is None):
        raise UsageError("--regions and --regions-format belong together")
    if idle := idle_choices(arguments.format, choices):
        raise UsageError(f"--format {arguments.format} takes no {_flag(idle[0])}")
    run = Run.read(arguments.run)
    unknown = set(choices.map.values()) - set(run.header["labels"])
    if unknown:
        raise UsageError(_no_finding("--map", min(unknown), run.header["labels"]))
    labels = FORMATS[arguments.format](arguments.labels, choices)
    secret = _secret(arguments.anonymous_names)
    scores = reveal(read_scores(run), labels, secret)
    cohort = join(scores, labels)
    options = Options(
        subgroups=_subgroups(arguments.subgroup, cohort),
        prevalence=_prevalences(arguments.prevalence, run.header["labels"]),
        replicates=arguments.replicates,
        seed=arguments.seed,
        threads=len(os.sched_getaffinity(0)),
        worst=arguments.worst,
        names=arguments.names,
    )
    if arguments.other is not None:
        first = (run, scores, cohort)
        return _comparison(arguments, first, labels, choices, options, secret), ""
    localised = None
    if arguments.regions is not None:
        regions = REGION_FORMATS[arguments.regions_format](arguments.regions)
        localised = localise(
            run, scores, cohort, regions, replicates=options.replicates, seed=options.seed
        )
    films = films_table(scores, cohort)
    found = document(
        run=run,
        label_path=arguments.labels,
        label_format=arguments.format,
        labels=labels,
        choices=choices,
        cohort=cohort,
        options=options,
        figures=figures_of(scores, cohort, options),
        localisation=localised,
        regions_path=arguments.regions,
        films=(table, films),
        command=_command(arguments),
    )
    return found, films


def _comparison(
    arguments: argparse.Namespace,
    first: tuple[Run, Scores, Cohort],
    labels: LabelSet,
    choices: Choices,
    options: Options,
    secret: bytes,
) -> dict[str, Any]:
    if arguments.regions is not None or arguments.subgroup or arguments.prevalence:
        raise UsageError("--regions, --subgroup and --prevalence are for one run")
    run, scores, cohort = first
    other = Run.read(arguments.other)
    other_scores = reveal(read_scores(other), labels, secret)
    second = (other_scores, join(other_scores, labels))
    a, b = pair((scores, cohort), second, studies=labels.unit == "study")
    return comparison_document(
        runs=(run, other),
        label_path=arguments.labels,
        label_format=arguments.format,
        labels=labels,
        choices=choices,
        cohorts=(a, b),
        options=options,
        findings=compare(
            (scores, a),
            (other_scores, b),
            replicates=options.replicates,
            seed=options.seed,
            threads=options.threads,
            listed=options.worst,
            names=options.names,
        ),
        command=_command(arguments),
    )


def _secret(path: Path | None) -> bytes:
    if path is None:
        return b""
    if not path.is_file():  # Unlike a run, an evaluation creates no secret.
        raise UsageError(f"--anonymous-names {path}: there is no such file")
    try:
        return read_secret(str(path))
    except ValueError as error:
        raise UsageError(f"--anonymous-names {path}: {error}") from None


def _map(texts: list[str]) -> dict[str, str]:
    """Return the finding of each column."""
    pairs = [_pair("--map", text) for text in texts]
    found = dict(pairs)
    if len(found) < len(pairs):
        column = next(
            name for name, count in Counter(name for name, _ in pairs).items() if count > 1
        )
        raise UsageError(f"--map: the column {column} can stand for one finding only")
    return found


def _pair(option: str, text: str) -> tuple[str, str]:
    """Return NAME and VALUE of NAME=VALUE; the last "=" counts."""
    name, equals, value = text.rpartition("=")
    if not (name and equals and value):
        raise UsageError(f'{option} "{text}" is not NAME=VALUE')
    return name, value


def _subgroups(wanted: list[str], cohort: Cohort) -> tuple[str, ...]:
    by_lower = {name.lower(): name for name in cohort.columns}
    for name in wanted:
        if name.lower() not in by_lower:
            has = ", ".join(cohort.columns) or "none"
            raise UsageError(f"--subgroup {name}: the columns of the label file are {has}")
    if wanted:
        return tuple(by_lower[name.lower()] for name in wanted)
    return tuple(name for name in DEFAULT if name in cohort.columns)


def _prevalences(texts: list[str], findings: list[str]) -> dict[str, float]:
    """Return the stated prevalences by finding; "" is for all others."""
    found = {}
    for text in texts:
        finding, _, number = text.rpartition("=")
        if finding and finding not in findings:
            raise UsageError(_no_finding("--prevalence", finding, findings))
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if not 0 < value < 1:
            raise UsageError(f'--prevalence "{number}" is not a number between 0 and 1')
        found[finding] = value
    return found


def _no_finding(option: str, finding: str, findings: list[str]) -> str:
    return f"{option}: the model has no finding {finding}{nearest(finding, findings)}"


def _command(arguments: argparse.Namespace) -> list[str]:
    """Return the command line, files without their folders, which can hold names of people."""
    runs = [each.name for each in (arguments.run, arguments.other) if each is not None]
    words = ["cxr", "evaluate", *runs, "--labels", arguments.labels.name]
    words += ["--format", arguments.format]
    for name in ("blank", "key_column", "patient_column"):
        if (value := getattr(arguments, name)) is not None:
            words += [_flag(name), value]
    for name, default in (("uncertain", "ignore"), ("readers", "majority"), ("laterals", "drop")):
        if (value := getattr(arguments, name)) != default:
            words += [_flag(name), value]
    for name in ("metadata", "anonymous_names"):
        if (file := getattr(arguments, name)) is not None:
            words += [_flag(name), file.name]
    for name in ("map", "subgroup", "prevalence"):
        for value in getattr(arguments, name):
            words += [_flag(name), value]
    if arguments.regions is not None:
        words += ["--regions", arguments.regions.name, "--regions-format", arguments.regions_format]
    words += ["--replicates", str(arguments.replicates), "--seed", str(arguments.seed)]
    words += ["--worst", str(arguments.worst), *["--names"] * arguments.names]
    words += ["--output", arguments.output.name]
    return [shlex.quote(word) for word in words]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
