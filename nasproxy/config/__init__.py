"""Configuration: its typed schema, and the objects built from it, which do not depend on Hydra."""
