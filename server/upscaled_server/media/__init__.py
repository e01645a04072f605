"""Pictures as streams of rows: decoding, resampling and encoding. Knows arrays and numbers, nothing of
requests."""
