"""README and docs: what they name exists, and what they tell to type works."""
