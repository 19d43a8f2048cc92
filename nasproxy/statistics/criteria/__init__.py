"""Decision rules on proxy tasks, one per file: the options of the config group `criterion`."""
