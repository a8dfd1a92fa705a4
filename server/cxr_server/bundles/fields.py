"""Fields: the types of text in a bundle's manifest."""

from typing import Annotated

from msgspec import Meta

# Control characters, line breaks and the marks that change the direction of text.
_HIDDEN = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff"
Line = Annotated[str, Meta(max_length=10_000, pattern=rf"\A[^{_HIDDEN}]*\Z")]
Label = Annotated[str, Meta(max_length=200, pattern=rf"\A[^{_HIDDEN}]+\Z")]
NAME_PATTERN = r"\A[A-Za-z0-9][A-Za-z0-9._+-]{0,127}\Z"
Identifier = Annotated[str, Meta(pattern=NAME_PATTERN)]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Time = Annotated[str, Meta(pattern=r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")]
