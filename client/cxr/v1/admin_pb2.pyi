import datetime

from cxr.v1 import chest_xray_pb2 as _chest_xray_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SwapModelRequest(_message.Message):
    __slots__ = ("name", "bundle")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    bundle: str
    def __init__(self, name: _Optional[str] = ..., bundle: _Optional[str] = ...) -> None: ...

class SwapModelResponse(_message.Message):
    __slots__ = ("model", "previous_model", "load_duration")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_MODEL_FIELD_NUMBER: _ClassVar[int]
    LOAD_DURATION_FIELD_NUMBER: _ClassVar[int]
    model: _chest_xray_pb2.Model
    previous_model: _chest_xray_pb2.Model
    load_duration: _duration_pb2.Duration
    def __init__(self, model: _Optional[_Union[_chest_xray_pb2.Model, _Mapping]] = ..., previous_model: _Optional[_Union[_chest_xray_pb2.Model, _Mapping]] = ..., load_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
