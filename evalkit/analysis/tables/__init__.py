"""Tables of accuracy, paired differences and token budget: terminal, Markdown, CSV, LaTeX."""
