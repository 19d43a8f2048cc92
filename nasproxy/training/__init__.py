"""The API for trainers: reports of any training loop, and a Lightning callback."""
