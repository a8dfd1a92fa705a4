"""Conversion: checkpoint of torchxrayvision -> bundle. Imported by commands only; needs no torch.

source -> checkpoint -> convert -> architectures -> write -> parity
bundle, films -> int8 -> fidelity -> quantize: a bundle in int8
"""
