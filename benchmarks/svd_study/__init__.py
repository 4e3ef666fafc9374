"""The study of the SVD filter (docs/method.md, section 7): its rows, measurements, claims and report."""
