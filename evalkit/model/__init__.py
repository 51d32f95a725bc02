"""Models: loading, positions, attention, and where a method's verbs are attached to the decoder layers."""
