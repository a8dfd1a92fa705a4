"""OpenVINO runtime: the openvino package without its telemetry and model converter.

A plain `import openvino` reports usage to a web service unless the user has opted out, and
spends more than half of its time on the converter, which nothing here needs. All other modules
import openvino from here.
"""

import sys

for _name in ("openvino_telemetry", "openvino.tools.ovc"):
    # None in sys.modules makes an import fail, which openvino tolerates.
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type]

import openvino  # noqa: E402
from openvino import properties  # noqa: E402

# Loads numpy's API into the binding. Two threads that do so at once block each other forever.
openvino.Type.f32.to_dtype()

__all__ = ["openvino", "properties"]
