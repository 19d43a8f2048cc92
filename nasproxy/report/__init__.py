"""What a study found, for people: one page, its pictures, and a list of its trials. Only reads the study."""
