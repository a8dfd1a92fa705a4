"""DICOM: file bytes -> elements -> codestream -> stored values -> grey."""
