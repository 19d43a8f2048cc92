"""Confirmation: the accepted proxy task retrained with the schedule that a search will use."""
