"""Metrics: consistency and prompt alignment of images, each with its unit, direction, model and protocol.

A metric takes `result.Frames` (images, prompts, masks) and knows nothing of how they were generated.
`suite.Suite` runs all metrics and yields a `result.Result` for each score, or a `result.MissingScore` that
says why there is none and what to do.
"""
