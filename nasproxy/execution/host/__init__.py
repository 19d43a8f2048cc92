"""The host: the process of a node that starts workers, leases devices to them and watches them."""
