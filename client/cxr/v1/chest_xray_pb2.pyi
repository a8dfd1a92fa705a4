import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ServingStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SERVING_STATUS_UNSPECIFIED: _ClassVar[ServingStatus]
    SERVING_STATUS_LOADING: _ClassVar[ServingStatus]
    SERVING_STATUS_SERVING: _ClassVar[ServingStatus]
    SERVING_STATUS_DRAINING: _ClassVar[ServingStatus]
    SERVING_STATUS_FAILED: _ClassVar[ServingStatus]

class ExplanationMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPLANATION_METHOD_UNSPECIFIED: _ClassVar[ExplanationMethod]
    EXPLANATION_METHOD_GRAD_CAM: _ClassVar[ExplanationMethod]
    EXPLANATION_METHOD_GRAD_CAM_PLUS_PLUS: _ClassVar[ExplanationMethod]
    EXPLANATION_METHOD_LAYER_CAM: _ClassVar[ExplanationMethod]
    EXPLANATION_METHOD_EIGEN_CAM: _ClassVar[ExplanationMethod]
    EXPLANATION_METHOD_SCORE_CAM: _ClassVar[ExplanationMethod]

class RenderKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RENDER_KIND_UNSPECIFIED: _ClassVar[RenderKind]
    RENDER_KIND_OVERLAY: _ClassVar[RenderKind]
    RENDER_KIND_HEATMAP: _ClassVar[RenderKind]
    RENDER_KIND_NONE: _ClassVar[RenderKind]
    RENDER_KIND_RADIOGRAPH: _ClassVar[RenderKind]

class RenderFrame(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RENDER_FRAME_UNSPECIFIED: _ClassVar[RenderFrame]
    RENDER_FRAME_MODEL_INPUT: _ClassVar[RenderFrame]
    RENDER_FRAME_ORIGINAL: _ClassVar[RenderFrame]

class RenderFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RENDER_FORMAT_UNSPECIFIED: _ClassVar[RenderFormat]
    RENDER_FORMAT_PNG: _ClassVar[RenderFormat]
    RENDER_FORMAT_JPEG: _ClassVar[RenderFormat]

class ColorMap(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COLOR_MAP_UNSPECIFIED: _ClassVar[ColorMap]
    COLOR_MAP_INFERNO: _ClassVar[ColorMap]
    COLOR_MAP_VIRIDIS: _ClassVar[ColorMap]
    COLOR_MAP_JET: _ClassVar[ColorMap]
    COLOR_MAP_GRAY: _ClassVar[ColorMap]

class HeatScale(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HEAT_SCALE_UNSPECIFIED: _ClassVar[HeatScale]
    HEAT_SCALE_PER_MAP: _ClassVar[HeatScale]
    HEAT_SCALE_FIXED: _ClassVar[HeatScale]

class ImageFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_FORMAT_UNSPECIFIED: _ClassVar[ImageFormat]
    IMAGE_FORMAT_PNG: _ClassVar[ImageFormat]
    IMAGE_FORMAT_JPEG: _ClassVar[ImageFormat]
    IMAGE_FORMAT_DICOM: _ClassVar[ImageFormat]

class CacheMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CACHE_MODE_UNSPECIFIED: _ClassVar[CacheMode]
    CACHE_MODE_USE: _ClassVar[CacheMode]
    CACHE_MODE_BYPASS: _ClassVar[CacheMode]

class DicomPresentation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DICOM_PRESENTATION_UNSPECIFIED: _ClassVar[DicomPresentation]
    DICOM_PRESENTATION_AS_SHOWN: _ClassVar[DicomPresentation]
    DICOM_PRESENTATION_STORED: _ClassVar[DicomPresentation]

class Reliability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RELIABILITY_UNSPECIFIED: _ClassVar[Reliability]
    RELIABILITY_CONSISTENT: _ClassVar[Reliability]
    RELIABILITY_UNEVEN: _ClassVar[Reliability]
    RELIABILITY_WEAK: _ClassVar[Reliability]

class WarningCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WARNING_CODE_UNSPECIFIED: _ClassVar[WarningCode]
    WARNING_CODE_PHANTOM_MODEL: _ClassVar[WarningCode]
    WARNING_CODE_CROPPED: _ClassVar[WarningCode]
    WARNING_CODE_LOW_RESOLUTION: _ClassVar[WarningCode]
    WARNING_CODE_LOW_CONTRAST: _ClassVar[WarningCode]
    WARNING_CODE_CLIPPED: _ClassVar[WarningCode]
    WARNING_CODE_POSSIBLY_INVERTED: _ClassVar[WarningCode]
    WARNING_CODE_COLOR: _ClassVar[WarningCode]
    WARNING_CODE_TRANSPARENT: _ClassVar[WarningCode]
    WARNING_CODE_UNUSUAL_ASPECT_RATIO: _ClassVar[WarningCode]
    WARNING_CODE_REORIENTED: _ClassVar[WarningCode]
    WARNING_CODE_RANGE_UNUSED: _ClassVar[WarningCode]
    WARNING_CODE_LATERAL_VIEW: _ClassVar[WarningCode]
    WARNING_CODE_MIRRORED: _ClassVar[WarningCode]
    WARNING_CODE_NOT_CHEST: _ClassVar[WarningCode]
    WARNING_CODE_FOR_PROCESSING: _ClassVar[WarningCode]
    WARNING_CODE_BURNED_IN_ANNOTATION: _ClassVar[WarningCode]
    WARNING_CODE_PIXELS_NOT_SQUARE: _ClassVar[WarningCode]
    WARNING_CODE_PRESENTATION_CONFLICT: _ClassVar[WarningCode]
    WARNING_CODE_POSSIBLY_ROTATED: _ClassVar[WarningCode]
    WARNING_CODE_POSSIBLY_NOT_CHEST: _ClassVar[WarningCode]
    WARNING_CODE_LETTERBOXED: _ClassVar[WarningCode]
    WARNING_CODE_UNTYPICAL_IMAGE: _ClassVar[WarningCode]
    WARNING_CODE_POSSIBLY_PHOTOGRAPH: _ClassVar[WarningCode]
SERVING_STATUS_UNSPECIFIED: ServingStatus
SERVING_STATUS_LOADING: ServingStatus
SERVING_STATUS_SERVING: ServingStatus
SERVING_STATUS_DRAINING: ServingStatus
SERVING_STATUS_FAILED: ServingStatus
EXPLANATION_METHOD_UNSPECIFIED: ExplanationMethod
EXPLANATION_METHOD_GRAD_CAM: ExplanationMethod
EXPLANATION_METHOD_GRAD_CAM_PLUS_PLUS: ExplanationMethod
EXPLANATION_METHOD_LAYER_CAM: ExplanationMethod
EXPLANATION_METHOD_EIGEN_CAM: ExplanationMethod
EXPLANATION_METHOD_SCORE_CAM: ExplanationMethod
RENDER_KIND_UNSPECIFIED: RenderKind
RENDER_KIND_OVERLAY: RenderKind
RENDER_KIND_HEATMAP: RenderKind
RENDER_KIND_NONE: RenderKind
RENDER_KIND_RADIOGRAPH: RenderKind
RENDER_FRAME_UNSPECIFIED: RenderFrame
RENDER_FRAME_MODEL_INPUT: RenderFrame
RENDER_FRAME_ORIGINAL: RenderFrame
RENDER_FORMAT_UNSPECIFIED: RenderFormat
RENDER_FORMAT_PNG: RenderFormat
RENDER_FORMAT_JPEG: RenderFormat
COLOR_MAP_UNSPECIFIED: ColorMap
COLOR_MAP_INFERNO: ColorMap
COLOR_MAP_VIRIDIS: ColorMap
COLOR_MAP_JET: ColorMap
COLOR_MAP_GRAY: ColorMap
HEAT_SCALE_UNSPECIFIED: HeatScale
HEAT_SCALE_PER_MAP: HeatScale
HEAT_SCALE_FIXED: HeatScale
IMAGE_FORMAT_UNSPECIFIED: ImageFormat
IMAGE_FORMAT_PNG: ImageFormat
IMAGE_FORMAT_JPEG: ImageFormat
IMAGE_FORMAT_DICOM: ImageFormat
CACHE_MODE_UNSPECIFIED: CacheMode
CACHE_MODE_USE: CacheMode
CACHE_MODE_BYPASS: CacheMode
DICOM_PRESENTATION_UNSPECIFIED: DicomPresentation
DICOM_PRESENTATION_AS_SHOWN: DicomPresentation
DICOM_PRESENTATION_STORED: DicomPresentation
RELIABILITY_UNSPECIFIED: Reliability
RELIABILITY_CONSISTENT: Reliability
RELIABILITY_UNEVEN: Reliability
RELIABILITY_WEAK: Reliability
WARNING_CODE_UNSPECIFIED: WarningCode
WARNING_CODE_PHANTOM_MODEL: WarningCode
WARNING_CODE_CROPPED: WarningCode
WARNING_CODE_LOW_RESOLUTION: WarningCode
WARNING_CODE_LOW_CONTRAST: WarningCode
WARNING_CODE_CLIPPED: WarningCode
WARNING_CODE_POSSIBLY_INVERTED: WarningCode
WARNING_CODE_COLOR: WarningCode
WARNING_CODE_TRANSPARENT: WarningCode
WARNING_CODE_UNUSUAL_ASPECT_RATIO: WarningCode
WARNING_CODE_REORIENTED: WarningCode
WARNING_CODE_RANGE_UNUSED: WarningCode
WARNING_CODE_LATERAL_VIEW: WarningCode
WARNING_CODE_MIRRORED: WarningCode
WARNING_CODE_NOT_CHEST: WarningCode
WARNING_CODE_FOR_PROCESSING: WarningCode
WARNING_CODE_BURNED_IN_ANNOTATION: WarningCode
WARNING_CODE_PIXELS_NOT_SQUARE: WarningCode
WARNING_CODE_PRESENTATION_CONFLICT: WarningCode
WARNING_CODE_POSSIBLY_ROTATED: WarningCode
WARNING_CODE_POSSIBLY_NOT_CHEST: WarningCode
WARNING_CODE_LETTERBOXED: WarningCode
WARNING_CODE_UNTYPICAL_IMAGE: WarningCode
WARNING_CODE_POSSIBLY_PHOTOGRAPH: WarningCode

class PredictRequest(_message.Message):
    __slots__ = ("image", "top_k", "strict_input", "dicom", "include_embedding", "model", "cache")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    STRICT_INPUT_FIELD_NUMBER: _ClassVar[int]
    DICOM_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    top_k: int
    strict_input: bool
    dicom: DicomOptions
    include_embedding: bool
    model: str
    cache: CacheMode
    def __init__(self, image: _Optional[bytes] = ..., top_k: _Optional[int] = ..., strict_input: bool = ..., dicom: _Optional[_Union[DicomOptions, _Mapping]] = ..., include_embedding: bool = ..., model: _Optional[str] = ..., cache: _Optional[_Union[CacheMode, str]] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("findings", "model", "image_info", "warnings", "timing", "request_id", "notice", "typicality", "embedding")
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGE_INFO_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    TYPICALITY_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    model: Model
    image_info: ImageInfo
    warnings: _containers.RepeatedCompositeFieldContainer[Warning]
    timing: Timing
    request_id: str
    notice: str
    typicality: float
    embedding: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., model: _Optional[_Union[Model, _Mapping]] = ..., image_info: _Optional[_Union[ImageInfo, _Mapping]] = ..., warnings: _Optional[_Iterable[_Union[Warning, _Mapping]]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., request_id: _Optional[str] = ..., notice: _Optional[str] = ..., typicality: _Optional[float] = ..., embedding: _Optional[_Iterable[float]] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("image", "labels", "method", "render", "strict_input", "heatmap_labels", "dicom", "include_embedding", "model", "cache")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    RENDER_FIELD_NUMBER: _ClassVar[int]
    STRICT_INPUT_FIELD_NUMBER: _ClassVar[int]
    HEATMAP_LABELS_FIELD_NUMBER: _ClassVar[int]
    DICOM_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    labels: _containers.RepeatedScalarFieldContainer[str]
    method: ExplanationMethod
    render: RenderOptions
    strict_input: bool
    heatmap_labels: _containers.RepeatedScalarFieldContainer[str]
    dicom: DicomOptions
    include_embedding: bool
    model: str
    cache: CacheMode
    def __init__(self, image: _Optional[bytes] = ..., labels: _Optional[_Iterable[str]] = ..., method: _Optional[_Union[ExplanationMethod, str]] = ..., render: _Optional[_Union[RenderOptions, _Mapping]] = ..., strict_input: bool = ..., heatmap_labels: _Optional[_Iterable[str]] = ..., dicom: _Optional[_Union[DicomOptions, _Mapping]] = ..., include_embedding: bool = ..., model: _Optional[str] = ..., cache: _Optional[_Union[CacheMode, str]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("explanations", "model", "image_info", "warnings", "timing", "request_id", "notice", "findings", "typicality", "embedding", "radiograph")
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGE_INFO_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    TYPICALITY_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    RADIOGRAPH_FIELD_NUMBER: _ClassVar[int]
    explanations: _containers.RepeatedCompositeFieldContainer[Explanation]
    model: Model
    image_info: ImageInfo
    warnings: _containers.RepeatedCompositeFieldContainer[Warning]
    timing: Timing
    request_id: str
    notice: str
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    typicality: float
    embedding: _containers.RepeatedScalarFieldContainer[float]
    radiograph: bytes
    def __init__(self, explanations: _Optional[_Iterable[_Union[Explanation, _Mapping]]] = ..., model: _Optional[_Union[Model, _Mapping]] = ..., image_info: _Optional[_Union[ImageInfo, _Mapping]] = ..., warnings: _Optional[_Iterable[_Union[Warning, _Mapping]]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., request_id: _Optional[str] = ..., notice: _Optional[str] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., typicality: _Optional[float] = ..., embedding: _Optional[_Iterable[float]] = ..., radiograph: _Optional[bytes] = ...) -> None: ...

class HealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthResponse(_message.Message):
    __slots__ = ("status", "model", "engine", "device", "server_version", "uptime_duration", "queue_depth", "in_flight_count", "precision")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_DURATION_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_COUNT_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    status: ServingStatus
    model: Model
    engine: str
    device: str
    server_version: str
    uptime_duration: _duration_pb2.Duration
    queue_depth: int
    in_flight_count: int
    precision: str
    def __init__(self, status: _Optional[_Union[ServingStatus, str]] = ..., model: _Optional[_Union[Model, _Mapping]] = ..., engine: _Optional[str] = ..., device: _Optional[str] = ..., server_version: _Optional[str] = ..., uptime_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., queue_depth: _Optional[int] = ..., in_flight_count: _Optional[int] = ..., precision: _Optional[str] = ...) -> None: ...

class DescribeModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class DescribeModelResponse(_message.Message):
    __slots__ = ("model", "architecture", "findings", "input_side_px", "preprocessing_id", "evidence_side", "file_sha256", "upstream_sha256", "limits", "image_formats", "methods", "license", "notices", "create_time", "precision", "refit", "served_models", "quantization")
    class FileSha256Entry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    INPUT_SIDE_PX_FIELD_NUMBER: _ClassVar[int]
    PREPROCESSING_ID_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_SIDE_FIELD_NUMBER: _ClassVar[int]
    FILE_SHA256_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_SHA256_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FORMATS_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    LICENSE_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    REFIT_FIELD_NUMBER: _ClassVar[int]
    SERVED_MODELS_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_FIELD_NUMBER: _ClassVar[int]
    model: Model
    architecture: str
    findings: _containers.RepeatedCompositeFieldContainer[FindingDescription]
    input_side_px: int
    preprocessing_id: str
    evidence_side: int
    file_sha256: _containers.ScalarMap[str, str]
    upstream_sha256: str
    limits: Limits
    image_formats: _containers.RepeatedScalarFieldContainer[ImageFormat]
    methods: _containers.RepeatedScalarFieldContainer[ExplanationMethod]
    license: str
    notices: _containers.RepeatedScalarFieldContainer[str]
    create_time: _timestamp_pb2.Timestamp
    precision: str
    refit: Refit
    served_models: _containers.RepeatedCompositeFieldContainer[ServedModel]
    quantization: Quantization
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., architecture: _Optional[str] = ..., findings: _Optional[_Iterable[_Union[FindingDescription, _Mapping]]] = ..., input_side_px: _Optional[int] = ..., preprocessing_id: _Optional[str] = ..., evidence_side: _Optional[int] = ..., file_sha256: _Optional[_Mapping[str, str]] = ..., upstream_sha256: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., image_formats: _Optional[_Iterable[_Union[ImageFormat, str]]] = ..., methods: _Optional[_Iterable[_Union[ExplanationMethod, str]]] = ..., license: _Optional[str] = ..., notices: _Optional[_Iterable[str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., precision: _Optional[str] = ..., refit: _Optional[_Union[Refit, _Mapping]] = ..., served_models: _Optional[_Iterable[_Union[ServedModel, _Mapping]]] = ..., quantization: _Optional[_Union[Quantization, _Mapping]] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("label", "class_index", "score", "probability", "threshold", "above_threshold", "calibrated_probability")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    ABOVE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    label: str
    class_index: int
    score: float
    probability: float
    threshold: float
    above_threshold: bool
    calibrated_probability: float
    def __init__(self, label: _Optional[str] = ..., class_index: _Optional[int] = ..., score: _Optional[float] = ..., probability: _Optional[float] = ..., threshold: _Optional[float] = ..., above_threshold: bool = ..., calibrated_probability: _Optional[float] = ...) -> None: ...

class FindingDescription(_message.Message):
    __slots__ = ("label", "class_index", "threshold", "reliability", "reliability_note", "refit")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    RELIABILITY_FIELD_NUMBER: _ClassVar[int]
    RELIABILITY_NOTE_FIELD_NUMBER: _ClassVar[int]
    REFIT_FIELD_NUMBER: _ClassVar[int]
    label: str
    class_index: int
    threshold: float
    reliability: Reliability
    reliability_note: str
    refit: FindingRefit
    def __init__(self, label: _Optional[str] = ..., class_index: _Optional[int] = ..., threshold: _Optional[float] = ..., reliability: _Optional[_Union[Reliability, str]] = ..., reliability_note: _Optional[str] = ..., refit: _Optional[_Union[FindingRefit, _Mapping]] = ...) -> None: ...

class Refit(_message.Message):
    __slots__ = ("parent_name", "parent_version", "parent_sha256", "labels_title", "labels_sha256", "evaluation_sha256", "image_count", "patient_count", "split", "calibration_method")
    PARENT_NAME_FIELD_NUMBER: _ClassVar[int]
    PARENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    PARENT_SHA256_FIELD_NUMBER: _ClassVar[int]
    LABELS_TITLE_FIELD_NUMBER: _ClassVar[int]
    LABELS_SHA256_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_SHA256_FIELD_NUMBER: _ClassVar[int]
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    PATIENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_METHOD_FIELD_NUMBER: _ClassVar[int]
    parent_name: str
    parent_version: str
    parent_sha256: str
    labels_title: str
    labels_sha256: str
    evaluation_sha256: str
    image_count: int
    patient_count: int
    split: str
    calibration_method: str
    def __init__(self, parent_name: _Optional[str] = ..., parent_version: _Optional[str] = ..., parent_sha256: _Optional[str] = ..., labels_title: _Optional[str] = ..., labels_sha256: _Optional[str] = ..., evaluation_sha256: _Optional[str] = ..., image_count: _Optional[int] = ..., patient_count: _Optional[int] = ..., split: _Optional[str] = ..., calibration_method: _Optional[str] = ...) -> None: ...

class Quantization(_message.Message):
    __slots__ = ("parent_name", "parent_version", "parent_sha256", "tool", "films", "calibration_count", "film_count", "max_probability_difference", "mean_probability_difference", "max_score_difference", "mean_score_difference", "changed_side_count", "far_changed_side_count", "evidence_correlation", "low_evidence_correlation", "tolerance", "planted")
    PARENT_NAME_FIELD_NUMBER: _ClassVar[int]
    PARENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    PARENT_SHA256_FIELD_NUMBER: _ClassVar[int]
    TOOL_FIELD_NUMBER: _ClassVar[int]
    FILMS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_COUNT_FIELD_NUMBER: _ClassVar[int]
    FILM_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_PROBABILITY_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    MEAN_PROBABILITY_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    MAX_SCORE_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    MEAN_SCORE_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    CHANGED_SIDE_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAR_CHANGED_SIDE_COUNT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_CORRELATION_FIELD_NUMBER: _ClassVar[int]
    LOW_EVIDENCE_CORRELATION_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    PLANTED_FIELD_NUMBER: _ClassVar[int]
    parent_name: str
    parent_version: str
    parent_sha256: str
    tool: str
    films: str
    calibration_count: int
    film_count: int
    max_probability_difference: float
    mean_probability_difference: float
    max_score_difference: float
    mean_score_difference: float
    changed_side_count: int
    far_changed_side_count: int
    evidence_correlation: float
    low_evidence_correlation: float
    tolerance: float
    planted: PlantedFindings
    def __init__(self, parent_name: _Optional[str] = ..., parent_version: _Optional[str] = ..., parent_sha256: _Optional[str] = ..., tool: _Optional[str] = ..., films: _Optional[str] = ..., calibration_count: _Optional[int] = ..., film_count: _Optional[int] = ..., max_probability_difference: _Optional[float] = ..., mean_probability_difference: _Optional[float] = ..., max_score_difference: _Optional[float] = ..., mean_score_difference: _Optional[float] = ..., changed_side_count: _Optional[int] = ..., far_changed_side_count: _Optional[int] = ..., evidence_correlation: _Optional[float] = ..., low_evidence_correlation: _Optional[float] = ..., tolerance: _Optional[float] = ..., planted: _Optional[_Union[PlantedFindings, _Mapping]] = ...) -> None: ...

class PlantedFindings(_message.Message):
    __slots__ = ("count", "auc_float32", "auc_int8", "pointing_float32", "pointing_int8")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    AUC_FLOAT32_FIELD_NUMBER: _ClassVar[int]
    AUC_INT8_FIELD_NUMBER: _ClassVar[int]
    POINTING_FLOAT32_FIELD_NUMBER: _ClassVar[int]
    POINTING_INT8_FIELD_NUMBER: _ClassVar[int]
    count: int
    auc_float32: float
    auc_int8: float
    pointing_float32: float
    pointing_int8: float
    def __init__(self, count: _Optional[int] = ..., auc_float32: _Optional[float] = ..., auc_int8: _Optional[float] = ..., pointing_float32: _Optional[float] = ..., pointing_int8: _Optional[float] = ...) -> None: ...

class FindingRefit(_message.Message):
    __slots__ = ("criterion", "parent_threshold", "image_count", "positive_count", "sensitivity", "specificity", "kept_reason", "raw", "calibrated")
    CRITERION_FIELD_NUMBER: _ClassVar[int]
    PARENT_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_COUNT_FIELD_NUMBER: _ClassVar[int]
    SENSITIVITY_FIELD_NUMBER: _ClassVar[int]
    SPECIFICITY_FIELD_NUMBER: _ClassVar[int]
    KEPT_REASON_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_FIELD_NUMBER: _ClassVar[int]
    criterion: str
    parent_threshold: float
    image_count: int
    positive_count: int
    sensitivity: Estimate
    specificity: Estimate
    kept_reason: str
    raw: CalibrationFigures
    calibrated: CalibrationFigures
    def __init__(self, criterion: _Optional[str] = ..., parent_threshold: _Optional[float] = ..., image_count: _Optional[int] = ..., positive_count: _Optional[int] = ..., sensitivity: _Optional[_Union[Estimate, _Mapping]] = ..., specificity: _Optional[_Union[Estimate, _Mapping]] = ..., kept_reason: _Optional[str] = ..., raw: _Optional[_Union[CalibrationFigures, _Mapping]] = ..., calibrated: _Optional[_Union[CalibrationFigures, _Mapping]] = ...) -> None: ...

class Estimate(_message.Message):
    __slots__ = ("value", "low", "high")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    value: float
    low: float
    high: float
    def __init__(self, value: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class CalibrationFigures(_message.Message):
    __slots__ = ("brier_score", "expected_calibration_error", "slope")
    BRIER_SCORE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_CALIBRATION_ERROR_FIELD_NUMBER: _ClassVar[int]
    SLOPE_FIELD_NUMBER: _ClassVar[int]
    brier_score: float
    expected_calibration_error: float
    slope: float
    def __init__(self, brier_score: _Optional[float] = ..., expected_calibration_error: _Optional[float] = ..., slope: _Optional[float] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("finding", "heatmap", "evidence", "logit", "peak", "regions", "no_positive_evidence", "method")
    FINDING_FIELD_NUMBER: _ClassVar[int]
    HEATMAP_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    LOGIT_FIELD_NUMBER: _ClassVar[int]
    PEAK_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    NO_POSITIVE_EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    finding: Finding
    heatmap: bytes
    evidence: EvidenceGrid
    logit: float
    peak: Peak
    regions: _containers.RepeatedCompositeFieldContainer[Region]
    no_positive_evidence: bool
    method: ExplanationMethod
    def __init__(self, finding: _Optional[_Union[Finding, _Mapping]] = ..., heatmap: _Optional[bytes] = ..., evidence: _Optional[_Union[EvidenceGrid, _Mapping]] = ..., logit: _Optional[float] = ..., peak: _Optional[_Union[Peak, _Mapping]] = ..., regions: _Optional[_Iterable[_Union[Region, _Mapping]]] = ..., no_positive_evidence: bool = ..., method: _Optional[_Union[ExplanationMethod, str]] = ...) -> None: ...

class EvidenceGrid(_message.Message):
    __slots__ = ("rows", "columns", "values")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    rows: int
    columns: int
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, rows: _Optional[int] = ..., columns: _Optional[int] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class Peak(_message.Message):
    __slots__ = ("x_px", "y_px", "value")
    X_PX_FIELD_NUMBER: _ClassVar[int]
    Y_PX_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    x_px: float
    y_px: float
    value: float
    def __init__(self, x_px: _Optional[float] = ..., y_px: _Optional[float] = ..., value: _Optional[float] = ...) -> None: ...

class Region(_message.Message):
    __slots__ = ("box", "peak_value", "threshold")
    BOX_FIELD_NUMBER: _ClassVar[int]
    PEAK_VALUE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    box: Box
    peak_value: float
    threshold: float
    def __init__(self, box: _Optional[_Union[Box, _Mapping]] = ..., peak_value: _Optional[float] = ..., threshold: _Optional[float] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("x_px", "y_px", "width_px", "height_px")
    X_PX_FIELD_NUMBER: _ClassVar[int]
    Y_PX_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    x_px: int
    y_px: int
    width_px: int
    height_px: int
    def __init__(self, x_px: _Optional[int] = ..., y_px: _Optional[int] = ..., width_px: _Optional[int] = ..., height_px: _Optional[int] = ...) -> None: ...

class RenderOptions(_message.Message):
    __slots__ = ("kind", "frame", "color_map", "opacity", "legend", "max_side_px", "scale", "format", "fixed_scale_logits", "contours")
    KIND_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    COLOR_MAP_FIELD_NUMBER: _ClassVar[int]
    OPACITY_FIELD_NUMBER: _ClassVar[int]
    LEGEND_FIELD_NUMBER: _ClassVar[int]
    MAX_SIDE_PX_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    FIXED_SCALE_LOGITS_FIELD_NUMBER: _ClassVar[int]
    CONTOURS_FIELD_NUMBER: _ClassVar[int]
    kind: RenderKind
    frame: RenderFrame
    color_map: ColorMap
    opacity: float
    legend: bool
    max_side_px: int
    scale: HeatScale
    format: RenderFormat
    fixed_scale_logits: float
    contours: bool
    def __init__(self, kind: _Optional[_Union[RenderKind, str]] = ..., frame: _Optional[_Union[RenderFrame, str]] = ..., color_map: _Optional[_Union[ColorMap, str]] = ..., opacity: _Optional[float] = ..., legend: bool = ..., max_side_px: _Optional[int] = ..., scale: _Optional[_Union[HeatScale, str]] = ..., format: _Optional[_Union[RenderFormat, str]] = ..., fixed_scale_logits: _Optional[float] = ..., contours: bool = ...) -> None: ...

class DicomOptions(_message.Message):
    __slots__ = ("presentation",)
    PRESENTATION_FIELD_NUMBER: _ClassVar[int]
    presentation: DicomPresentation
    def __init__(self, presentation: _Optional[_Union[DicomPresentation, str]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "weights_sha256", "intended_use", "precision")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    INTENDED_USE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    weights_sha256: str
    intended_use: str
    precision: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., weights_sha256: _Optional[str] = ..., intended_use: _Optional[str] = ..., precision: _Optional[str] = ...) -> None: ...

class ServedModel(_message.Message):
    __slots__ = ("name", "model")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: Model
    def __init__(self, name: _Optional[str] = ..., model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class ImageInfo(_message.Message):
    __slots__ = ("format", "width_px", "height_px", "bit_depth", "crop_box", "presentation")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    BIT_DEPTH_FIELD_NUMBER: _ClassVar[int]
    CROP_BOX_FIELD_NUMBER: _ClassVar[int]
    PRESENTATION_FIELD_NUMBER: _ClassVar[int]
    format: ImageFormat
    width_px: int
    height_px: int
    bit_depth: int
    crop_box: Box
    presentation: DicomPresentation
    def __init__(self, format: _Optional[_Union[ImageFormat, str]] = ..., width_px: _Optional[int] = ..., height_px: _Optional[int] = ..., bit_depth: _Optional[int] = ..., crop_box: _Optional[_Union[Box, _Mapping]] = ..., presentation: _Optional[_Union[DicomPresentation, str]] = ...) -> None: ...

class Warning(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: WarningCode
    message: str
    def __init__(self, code: _Optional[_Union[WarningCode, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("decode_duration", "queue_duration", "inference_duration", "render_duration", "evidence_cached")
    DECODE_DURATION_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DURATION_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_DURATION_FIELD_NUMBER: _ClassVar[int]
    RENDER_DURATION_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_CACHED_FIELD_NUMBER: _ClassVar[int]
    decode_duration: _duration_pb2.Duration
    queue_duration: _duration_pb2.Duration
    inference_duration: _duration_pb2.Duration
    render_duration: _duration_pb2.Duration
    evidence_cached: bool
    def __init__(self, decode_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., queue_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., inference_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., render_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., evidence_cached: bool = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_request_bytes", "min_side_px", "max_side_px", "max_pixel_count", "max_drawn_pixels", "max_in_flight_count", "max_bulk_in_flight_count")
    MAX_REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    MIN_SIDE_PX_FIELD_NUMBER: _ClassVar[int]
    MAX_SIDE_PX_FIELD_NUMBER: _ClassVar[int]
    MAX_PIXEL_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAWN_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_BULK_IN_FLIGHT_COUNT_FIELD_NUMBER: _ClassVar[int]
    max_request_bytes: int
    min_side_px: int
    max_side_px: int
    max_pixel_count: int
    max_drawn_pixels: int
    max_in_flight_count: int
    max_bulk_in_flight_count: int
    def __init__(self, max_request_bytes: _Optional[int] = ..., min_side_px: _Optional[int] = ..., max_side_px: _Optional[int] = ..., max_pixel_count: _Optional[int] = ..., max_drawn_pixels: _Optional[int] = ..., max_in_flight_count: _Optional[int] = ..., max_bulk_in_flight_count: _Optional[int] = ...) -> None: ...
