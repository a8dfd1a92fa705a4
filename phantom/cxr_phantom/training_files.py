"""Names of the files that `cxr-phantom train` writes and `cxr-phantom pack` reads."""

WEIGHTS_NAME = "weights.safetensors"
REPORT_NAME = "training.json"
