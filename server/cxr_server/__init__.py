"""cxr-server: chest X-ray inference as a gRPC service. For research use only."""

__version__ = "0.1.0"
