"""Jobs: what one run of the command does, stage by stage."""
