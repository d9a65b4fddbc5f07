"""The examples, each against an independent answer."""
