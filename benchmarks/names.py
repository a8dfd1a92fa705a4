"""Names of the compared systems, as in results and tables."""

ENGINE = "engine alone"
ENGINE_INT8, ENGINE_BF16 = f"{ENGINE}, int8", f"{ENGINE}, bfloat16"
"""Upper bounds: the engine on preprocessed tensors, in float32 and in less."""
OURS = "cxr-serve"
OURS_INT8, OURS_BF16 = f"{OURS} int8", f"{OURS} bfloat16"
BUDGET_MIB = 1024
OURS_IN_BUDGET = f"cxr-serve, memory budget of {BUDGET_MIB} MiB"
OURS_IN_THREADS = "cxr-serve, decoding in threads"
BARE = "bare server"
"""The same engine, decoder, checks and resizing behind the least that a gRPC server can do."""
BARE_ISOLATED = "bare server, isolated"
"""The same with decoders in processes of their own, and the hash of a file."""
AGAINST = "other checkout"
TRITON, TUNED = "Triton", "Triton tuned"
"""The same engine behind torchxrayvision's transforms, and behind this project's preprocessing."""
TUNED_INT8 = f"{TUNED} int8"
LITSERVE, BASELINE = "LitServe", "baseline"


def bound_of(system: str) -> str:
    """Return the engine alone that a system is compared with."""
    bounds = {OURS_INT8: ENGINE_INT8, TUNED_INT8: ENGINE_INT8, OURS_BF16: ENGINE_BF16}
    return bounds.get(system, ENGINE)
