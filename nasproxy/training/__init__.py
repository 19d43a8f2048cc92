"""What a trainer imports: hooks for any loop, and a callback for Lightning."""
