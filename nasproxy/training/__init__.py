"""The API for trainers: hooks for any training loop, and a Lightning callback."""
