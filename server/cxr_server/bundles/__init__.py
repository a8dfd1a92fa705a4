"""Bundles: models as folders of hashed, inert files, written once by `convert` and then only read.

model name -> store -> folder -> load -> Bundle -> engine
"""
