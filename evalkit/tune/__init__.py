"""Supervised compression tuning (XComp, arXiv 2604.14149, §3.2): a model is tuned while a method drops its tokens."""
