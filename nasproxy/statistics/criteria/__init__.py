"""Rules of decision on a proxy task, one a file: the choices of the configuration's `criterion`."""
