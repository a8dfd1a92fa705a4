"""Text: what came from elsewhere -> what is safe to print."""


def printable(text: object) -> str:
    """Return a text without line ends and control characters, which can steer a terminal.

    File names and a server's messages are others' words; names that are not UTF-8 are escaped.
    """
    plain = str(text).encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else " " for char in plain)
