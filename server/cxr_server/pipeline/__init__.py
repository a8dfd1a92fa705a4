"""The way of one image through the server, pure numpy but for the engine.

    image bytes -> decode -> Radiograph -> fit -> schedule -> engine -> evidence -> score
                                |                                          |
                                `-> cautions                               `-> explain -> render

Read the modules in that order. Under decode, `header`, `png` and `jpeg` judge a file before any
pixel costs anything, and `grey` turns its pixels to grey; under fit, `fit_operator` makes the
matrices; under schedule, a `ticket` is a request on its way, `fair_queue` gives callers their
turns and `threads` the pools; under render, `colormaps`, `legend` and `encode` do what their
names say. `prepare` takes one image up to the engine; `run` ties all steps together, and `cache`
lets an Explain after a Predict of the same bytes skip everything up to the evidence. Nothing in
here knows of gRPC.
"""
