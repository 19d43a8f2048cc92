"""Other systems whose names and files nasproxy speaks."""
