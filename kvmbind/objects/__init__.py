"""Python's face of the dispatchers: each object owns a handle, and failures are `ZxError`s."""
