"""Confirmation: retrains the accepted proxy task with the schedule that a search will use."""
