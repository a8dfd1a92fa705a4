"""Text from files and servers -> text that is safe to print."""


def printable(text: object) -> str:
    """Return a text without line breaks and control characters, which can control a terminal.

    File names and messages of a server are untrusted; names that are not UTF-8 are escaped.
    """
    plain = str(text).encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else " " for char in plain)
