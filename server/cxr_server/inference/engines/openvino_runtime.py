"""OpenVINO runtime: the openvino package without its telemetry and model converter.

A plain `import openvino` reports usage to a web service unless the user has opted out, and
spends more than half of its time on the converter, which serving does not need. All other
modules import openvino from here.
"""

import sys

_TELEMETRY = "openvino_telemetry"
_CONVERTER = "openvino.tools.ovc"

# None in sys.modules makes an import fail, which openvino tolerates. Telemetry stays off.
sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]
_hidden = sys.modules.setdefault(_CONVERTER, None) is None  # type: ignore[arg-type]
try:
    import openvino
    from openvino import properties
finally:
    if _hidden:
        del sys.modules[_CONVERTER]

__all__ = ["openvino", "properties"]
