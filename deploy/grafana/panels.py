"""Panels of the dashboard: what each one shows, in rows."""

from typing import NamedTuple

from promql import FAILED, MODEL, OK, here, increase, mean, quantile, rate, share, total

CALLS = "rpc_server_call_duration_seconds"
COUNT = f"{CALLS}_count"
BUSY = "cxr_engine_busy_seconds_total"
REQUESTS, RESPONSES = "rpc_server_request_size_bytes", "rpc_server_response_size_bytes"
SERVED = "version, model, model_version, engine, device"
METHOD, STATUS = "rpc_method", "rpc_response_status_code"
INSTANCE = "{{instance}}"
MODEL_OF = "{{served_as}} {{instance}}"
WHAT = "{{model}} {{model_version}}, {{engine}} on {{device}}, cxr-server {{version}}"


class Number(NamedTuple):
    """A value now. `unit` is one of Grafana's."""

    title: str
    unit: str
    expr: str
    description: str = ""


class Graph(NamedTuple):
    """Expressions over time, by the legend of their series."""

    title: str
    unit: str
    queries: dict[str, str]
    description: str = ""
    is_stacked: bool = False


NUMBERS = (
    Number("Serving", "none", total(here("cxr_phase", 'phase="SERVING"')), "Servers that answer."),
    Number(
        "Calls",
        "reqps",
        total(rate(COUNT, MODEL)),
        "For the model: Predict, Explain and ModelInfer.",
    ),
    Number(
        "Failing",
        "percentunit",
        f"{total(rate(COUNT, FAILED))} / {total(rate(COUNT))}",
        "INTERNAL and UNKNOWN: faults of the server.",
    ),
    Number("Answered within, p99", "s", quantile(0.99, CALLS, MODEL, OK)),
    Number(
        "Engine in use",
        "percentunit",
        f"{total(rate(BUSY))} / {total(here('cxr_engine_calls_limit'))}",
    ),
    Number(
        "First certificate expires in",
        "s",
        f"min({here('cxr_certificate_expiry_timestamp_seconds')}) - time()",
        "Empty without TLS.",
    ),
)

ROWS = {
    "Calls": (
        Graph(
            "Calls by status",
            "reqps",
            {f"{{{{{STATUS}}}}}": total(rate(COUNT), STATUS)},
            is_stacked=True,
        ),
        Graph(
            "Time of answered calls",
            "s",
            {
                "p50 {{rpc_method}}": quantile(0.5, CALLS, MODEL, OK, by=(METHOD,)),
                "p99 {{rpc_method}}": quantile(0.99, CALLS, MODEL, OK, by=(METHOD,)),
            },
        ),
        Graph(
            "Mean time in each stage",
            "s",
            {
                "{{stage}} {{rpc_method}}, {{served_as}}": mean(
                    "cxr_stage_duration_seconds", "served_as", METHOD, "stage"
                )
            },
            "Queue is the wait for a decode worker, the engine or a drawing thread.",
        ),
        Graph(
            "Calls of each model by status",
            "reqps",
            {
                f"{{{{served_as}}}} {{{{{STATUS}}}}}": total(
                    rate("cxr_model_calls_total"), "served_as", STATUS
                )
            },
        ),
        Graph(
            "Errors by reason",
            "reqps",
            {"{{reason}}": total(rate("cxr_calls_refused_total"), "reason")},
            "The README's table of errors says what each reason means.",
        ),
        Graph(
            "Given up by callers",
            "reqps",
            {"{{cause}}": total(rate("cxr_calls_dropped_total"), "cause")},
        ),
        Graph(
            "Calls by token",
            "reqps",
            {"{{caller}}": total(rate("cxr_caller_calls_total"), "caller")},
            "Empty without tokens.",
        ),
        Graph(
            "Bytes received and sent",
            "Bps",
            {
                "in {{rpc_method}}": total(rate(f"{REQUESTS}_sum"), METHOD),
                "out {{rpc_method}}": total(rate(f"{RESPONSES}_sum"), METHOD),
            },
        ),
        Graph(
            "Size of requests",
            "bytes",
            {
                "p50": quantile(0.5, REQUESTS, MODEL),
                "p99": quantile(0.99, REQUESTS, MODEL),
            },
        ),
        Graph(
            "Calls in flight",
            "none",
            {"{{rpc_method}}": total(here("rpc_server_active_calls"), METHOD)},
        ),
    ),
    "Limits": (
        Graph(
            "Held of each limit",
            "percentunit",
            {
                f"calls {INSTANCE}": share("cxr_calls_held", "cxr_calls_limit"),
                f"bulk calls {INSTANCE}": share("cxr_bulk_calls_held", "cxr_bulk_calls_limit"),
                f"request bytes {INSTANCE}": share(
                    "cxr_request_bytes_held", "cxr_request_bytes_limit"
                ),
                f"answer bytes {INSTANCE}": share(
                    "cxr_answer_bytes_held", "cxr_answer_bytes_limit"
                ),
            },
            "At 1, calls are refused: QUEUE_FULL or MEMORY_FULL. Answers wait for each other.",
        ),
        Graph(
            "Calls that wait",
            "none",
            {"for {{queue}}": total(here("cxr_queue_depth"), "queue")},
            is_stacked=True,
        ),
        Graph(
            "Memory of the budget",
            "percentunit",
            {
                f"server {INSTANCE}": share(
                    "process_resident_memory_bytes", "cxr_memory_budget_bytes"
                ),
                f"decoding {INSTANCE}": share(
                    "cxr_decode_processes_memory_bytes", "cxr_memory_budget_bytes"
                ),
            },
            is_stacked=True,
        ),
    ),
    "Engine": (
        Graph(
            "Engine in use",
            "percentunit",
            {MODEL_OF: f"{rate(BUSY)} / {here('cxr_engine_calls_limit')}"},
        ),
        Graph(
            "Images",
            "ops",
            {
                "inferred, {{served_as}}": total(rate("cxr_engine_batch_images_sum"), "served_as"),
                "from the cache, {{served_as}}": total(
                    rate("cxr_evidence_cache_hits_total"), "served_as"
                ),
            },
        ),
        Graph(
            "Images in a batch",
            "none",
            {
                "mean {{served_as}}": mean("cxr_engine_batch_images", "served_as"),
                "p90 {{served_as}}": quantile(0.9, "cxr_engine_batch_images", by=("served_as",)),
            },
        ),
        Graph(
            "Failures and rebuilds",
            "none",
            {
                f"engine failed {MODEL_OF}": increase("cxr_engine_failures_total"),
                f"rebuild {{{{outcome}}}} {MODEL_OF}": increase("cxr_engine_rebuilds_total"),
                "decode process {{cause}}": total(
                    increase("cxr_decode_processes_ended_total"), "cause"
                ),
            },
        ),
        Graph(
            "Images kept in the cache",
            "none",
            {
                f"kept {MODEL_OF}": here("cxr_evidence_cache_entries"),
                f"limit {MODEL_OF}": here("cxr_evidence_cache_entries_limit"),
            },
        ),
        Graph("Time to load the model", "s", {MODEL_OF: here("cxr_model_load_seconds")}),
    ),
    "Inputs and decoding": (
        Graph(
            "Answers with each warning",
            "percentunit",
            {
                "{{code}}, {{served_as}}": total(rate("cxr_warnings_total"), "served_as", "code")
                + " / on(served_as) group_left() "
                + total(rate("cxr_answered_images_total"), "served_as")
            },
            "The one sign of a change in the images: scores are not recorded.",
        ),
        Graph(
            "Decode workers in use",
            "percentunit",
            {INSTANCE: share("cxr_decode_workers_busy", "cxr_decode_workers_limit")},
        ),
        Graph("Decode processes", "none", {INSTANCE: here("cxr_decode_processes")}),
    ),
    "Processes": (
        Graph(
            "CPU",
            "none",
            {
                f"server {INSTANCE}": rate("process_cpu_seconds_total"),
                f"decoding {INSTANCE}": rate("cxr_decode_processes_cpu_seconds_total"),
            },
            "Cores in use.",
        ),
        Graph(
            "Delay of the event loop, p99",
            "s",
            {INSTANCE: quantile(0.99, "cxr_event_loop_lag_seconds", by=("instance",))},
        ),
        Graph(
            "Open files", "percentunit", {INSTANCE: share("process_open_fds", "process_max_fds")}
        ),
        Graph(
            "Age",
            "s",
            {
                f"{INSTANCE}: {WHAT}": f"(time() - {here('process_start_time_seconds')})"
                f" * on(job, instance) group_left({SERVED}) {here('cxr_build_info')}"
            },
            "What is served, and since when.",
        ),
        Graph(
            "Lost lines and failed reloads",
            "none",
            {
                f"log {INSTANCE}": increase("cxr_log_lines_dropped_total"),
                f"audit {INSTANCE}": increase("cxr_audit_lines_lost_total"),
                f"{{{{files}}}} {INSTANCE}": increase("cxr_reload_failures_total"),
            },
        ),
    ),
}
