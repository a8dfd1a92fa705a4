"""Mark: how a file tells that this service drew it. `explanation` writes it, the codecs read it.

PNG carries it as the keyword of a text chunk, JPEG at the beginning of a comment, before a space.
"""

MARK = b"cxr-serve"
IS_HEATMAP = "This is a picture with a heat map, drawn by cxr-serve; send the radiograph itself."
"""The message of `ImageIsHeatmap`."""
