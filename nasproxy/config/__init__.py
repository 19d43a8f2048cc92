"""Configuration: its typed schema, and the objects that it describes. The edge where Hydra ends."""
