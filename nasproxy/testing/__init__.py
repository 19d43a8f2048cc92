"""What every backend and every store must pass, shipped so that those of other packages can be held to it too."""
