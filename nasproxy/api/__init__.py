"""The Python interface: run a job from a script or a notebook, and read studies as pandas frames."""
