"""Planning, on tiny checkpoints written by the safetensors package."""
