"""GPU check: proves and measures the CUDA half of the server on one NVIDIA GPU."""
