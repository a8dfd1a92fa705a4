"""Bundles: models as folders of hashed, inert files, made once by `prepare` and then only read.

upstream file -> download -> unpickle -> write -> bundle folder -> load -> engine
"""
