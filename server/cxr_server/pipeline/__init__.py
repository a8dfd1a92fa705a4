"""The way of one image through the server, pure numpy but for the engine.

    image bytes -> decode -> Radiograph -> fit -> schedule -> engine -> evidence -> score
                                |                                          |
                                `-> cautions                               `-> explain -> render

Read the modules in that order. `header`, `png` and `jpeg` are decode's eyes: they judge a file
by its header before any pixel costs anything. `run` ties the steps together and `cache` lets
an Explain after a Predict of the same bytes skip everything up to the evidence.
Nothing in here knows of gRPC.
"""
