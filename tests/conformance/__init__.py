"""WebNN conformance: runs vectors (JSON, schema of the shared vectors' README) on pynn's back ends."""
