"""What touchmark is held against the real tools with: see scripts/interop."""
