"""Open Inference Protocol: Predict for the clients of Triton and KServe, on the same port.

    tensors    BYTES tensors of image files -> images; findings -> output tensors
    servicer   the protocol's methods

`open_inference.proto` and the modules made from it describe the wire.
"""
