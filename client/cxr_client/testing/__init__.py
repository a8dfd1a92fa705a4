"""Testing: a fake server for the tests of callers. It needs no model and no server package.

>>> from cxr_client import Client, OverloadedError
>>> from cxr_client.testing import FakeServer, failure
>>> with FakeServer() as server, Client(server.address) as client:
...     client.predict(b"any bytes").findings[0].label
'Effusion'

Answers and errors are scripted; requests are recorded:

>>> full = failure("RESOURCE_EXHAUSTED", "QUEUE_FULL")
>>> with FakeServer() as server, Client(server.address) as client:
...     server.script(full)
...     try:
...         client.explain(b"any bytes", labels="Nodule")
...     except OverloadedError as error:
...         print(error.reason)
...     client.explain(b"any bytes", labels="Nodule").explanations[0].finding.label
...     [call.request.labels for call in server.calls]
QUEUE_FULL
'Nodule'
[['Nodule'], ['Nodule']]
"""

from cxr_client.testing.answers import default_answer
from cxr_client.testing.server import Answer, FakeServer, RecordedCall
from cxr_client.testing.steps import Hold, Step, failure

__all__ = [
    "Answer",
    "FakeServer",
    "Hold",
    "RecordedCall",
    "Step",
    "default_answer",
    "failure",
]
