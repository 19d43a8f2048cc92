"""Worth: designs the certified ladder, and compares strategies for the search by what they cost and find."""
