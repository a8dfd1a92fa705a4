"""Evaluation: a run and a label file -> figures with intervals -> a report. Needs `[evaluate]`.

`labels` reads label files, `scores` a run; `cohort` joins them. `metrics`, `intervals`,
`bootstrap` and `calibration` compute from arrays and know nothing of files. `evaluate` puts the
figures together, `report` shows them. Only the commands of `cxr` that need it import this package.
"""
