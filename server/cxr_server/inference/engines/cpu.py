"""CPU: what this machine multiplies in int8 and bfloat16, as OpenVINO and Linux tell."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
INT8_INSTRUCTIONS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")
"""Flags of CPUs that sum products of int8 in one instruction, by Linux's names."""


def cpu_flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """Return the flags of the first core; empty where Linux does not tell."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def multiplies_bfloat16() -> bool:
    """Return whether the CPU multiplies tiles of bfloat16; others are faster in float32."""
    return "amx_bf16" in cpu_flags()


def openvino_capabilities() -> tuple[str, ...]:
    """Return the precisions that OpenVINO optimises for on the CPU, such as "INT8"."""
    # Its import takes long, and flags are asked for where OpenVINO may not be installed.
    from cxr_server.inference.engines.openvino_runtime import openvino

    return tuple(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def told() -> str:
    """Return a line on the CPU's instructions for int8 and bfloat16."""
    flags, capabilities = cpu_flags(), openvino_capabilities()
    int8 = [flag for flag in INT8_INSTRUCTIONS if flag in flags]
    amx = "AMX: --precision bfloat16" if multiplies_bfloat16() else "no AMX, so no bfloat16"
    return f"OpenVINO: {', '.join(capabilities)}; int8 by {', '.join(int8) or 'no flag'}; {amx}"


def int8_doubt(cpuinfo: Path = CPUINFO) -> str | None:
    """Return why a bundle in int8 may not be faster here than in float32, or None."""
    if "INT8" not in openvino_capabilities():
        return "OpenVINO does not compute in int8 on this CPU: a bundle in int8 is not faster on it"
    if not cpu_flags(cpuinfo) & {*INT8_INSTRUCTIONS}:
        return (
            "this CPU reports no instructions for int8 (VNNI, AMX, dot product): "
            "a bundle in int8 may not be faster here"
        )
    return None
