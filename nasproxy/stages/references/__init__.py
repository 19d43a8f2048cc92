"""References: selection and full training of the reference models."""
