"""Jobs: the stages that one run of the command executes."""
