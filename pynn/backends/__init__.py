"""Back ends: each probes whether it can be used here and compiles an OnnxModel to an Executable."""
