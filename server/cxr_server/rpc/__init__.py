"""The gRPC adapter of the service: listening, interceptors, translation of messages."""
