"""Supervised compression tuning (XComp, arXiv 2604.14149, §3.2): a model learns to live with what a method drops."""
